"""Verbs for embeddings of other sample sets, of four points, and of few samples."""

from pathlib import Path
from typing import Annotated, Any

import typer

import inpca
from inpca.cli.options import EnsemblePath, Json, Memory, Query, Quiet, References, Workers
from inpca.cli.services import check_output, models, one_embedding, print_csv, print_table, say
from inpca.errors import InputError

EmbeddingName = Annotated[str, typer.Option("--name", "-n", help="the embedding")]
Coordinates = Annotated[Path | None, typer.Option("--output", "-o", help="CSV file")]


def join(
    path: EnsemblePath,
    other: Annotated[str, typer.Argument(help="distances of the same models on another set")],
    name: EmbeddingName = "train",
    output: Coordinates = None,
    workers: Workers = 0,
    quiet: Quiet = False,
) -> None:
    """Place the models of an embedding by their distances on another sample set (Eq. 10).

    The coordinates are kept with the embedding; both sets are printed as CSV.
    """
    import pandas as pd

    from inpca.summary import coordinates_table

    check_output(output)
    ensemble = inpca.open_ensemble(path)
    place = ensemble.embeddings_path(name)
    with one_embedding(ensemble, place):  # two at once would lose the coordinates of one
        embedding = inpca.load_embedding(place)
        table = _models_of(embedding, place)
        embedding.set_params(executor=workers or None, progress=not quiet)
        matrix = inpca.TiledMatrix.open(ensemble.distances_path(other))
        embedding.join(other, matrix)
        embedding.save(place, overwrite=True)
    parts = [
        coordinates_table(x, embedding.signature_, table.assign(distances=one))
        for one, x in ((name, embedding.embedding_), (other, embedding.joint_[other]))
    ]
    print_csv(pd.concat(parts), output)


def four_point(
    path: EnsemblePath,
    s1: Annotated[float, typer.Option("--s1", help="progress of the first average")] = 0.3,
    s2: Annotated[float, typer.Option("--s2", help="progress of the second average")] = 0.7,
    sigma: Annotated[float, typer.Option(help="width of the averages, in progress")] = 0.05,
    sample_set: Annotated[str, typer.Option("--sample-set", "-s", help="which sample set")] = (
        "train"
    ),
    name: Annotated[str, typer.Option("--name", "-n", help="name of the result")] = "four-point",
    select: Query = "",
    references: References = True,
    output: Coordinates = None,
    memory: Memory = "",
    workers: Workers = 0,
    quiet: Quiet = False,
) -> None:
    """Embed ignorance, truth and two averages (Eq. 11), and project all models; CSV.

    The embedding of the four points is saved with their predictions: `inpca project` places
    further models in it.
    """
    from inpca.geometry.four_point import four_point as embed_four_points
    from inpca.summary import coordinates_table

    check_output(output)
    view = models(path, select, references)
    found = embed_four_points(
        view,
        at=(s1, s2),
        sigma=sigma,
        sample_set=sample_set,
        memory=memory or None,
        executor=workers or None,
        progress=not quiet,
    )
    place = view.embeddings_path(name)
    with one_embedding(view, place):
        if place.exists():
            say(f"replacing the embedding {place.name}", err=True)
        found.embedding.save(place, overwrite=True, with_training=True)
    table = view.models.assign(progress=found.progress)
    print_csv(coordinates_table(found.coordinates, found.embedding.signature_, table), output)


def explained(
    path: EnsemblePath,
    name: EmbeddingName = "train",
    distances: Annotated[
        str, typer.Option("--distances", help="which distances; default: the embedding's name")
    ] = "",
    workers: Workers = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Explained pairwise distances (Eq. 12) of an embedding, for each number of coordinates.

    With --distances of a sample set that was joined to it, of the models as they lie there.
    """
    import numpy as np
    import pandas as pd

    from inpca.embedding.joint import match_distances

    ensemble = inpca.open_ensemble(path)
    embedding = inpca.load_embedding(ensemble.embeddings_path(name))
    matrix = inpca.TiledMatrix.open(ensemble.distances_path(distances or name))
    tiles, rows = match_distances(embedding, matrix)
    joined = distances in embedding.joint_
    x = embedding.joint_[distances] if joined else embedding.embedding_
    if not quiet:
        say(f"coordinates on {distances if joined else name}", err=True)
    values = inpca.explained_pairwise_distances(
        tiles,
        x if rows is None else x[np.argsort(rows)],
        embedding.signature_,
        executor=workers or None,
    )
    table = pd.DataFrame({"d": np.arange(1, len(values) + 1), "explained": values})
    print_table(table, as_json)


def subsets(
    path: EnsemblePath,
    samples: Annotated[
        str, typer.Option("--samples", help="numbers of samples, separated by commas")
    ] = "10,50,500",
    repeats: Annotated[int, typer.Option("--repeats", help="draws of each number")] = 3,
    name: Annotated[str, typer.Option("--name", "-n", help="the distances to explain")] = "train",
    components: Annotated[int, typer.Option("--components", "-k", help="coordinates")] = 10,
    seed: Annotated[int, typer.Option("--seed", help="of the draws")] = 0,
    keep: Annotated[
        Path | None, typer.Option("--keep", help="folder for the distances of each draw")
    ] = None,
    memory: Memory = "",
    workers: Workers = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """How well embeddings from few samples explain the distances over all (Eq. 12)."""
    from inpca.embedding.subsets import explained_by_samples

    ensemble = inpca.open_ensemble(path)
    matrix = inpca.TiledMatrix.open(ensemble.distances_path(name))
    table = explained_by_samples(
        _view_of(ensemble, matrix),
        matrix,
        _numbers(samples),
        repeats=repeats,
        n_components=components,
        random_state=seed,
        metric=matrix.attrs["metric"],
        sample_set=matrix.attrs["sample_set"],
        out=keep,
        memory=memory or None,
        executor=workers or None,
        progress=not quiet,
    )
    print_table(table, as_json)


def _models_of(embedding: Any, place: Path) -> Any:
    if embedding.models_ is None:
        raise InputError(f"The embedding {place} has no table of models; embed an ensemble.")
    return embedding.models_


def _view_of(ensemble: Any, matrix: Any) -> Any:
    """The models of a distance matrix, in its order, as a view of its ensemble."""
    if matrix.models is None or "sample_set" not in matrix.attrs:
        raise InputError(f"{matrix.path} was computed from an array; predictions are not known.")
    keys = [str(key) for key in matrix.models.index]
    references = [key for key in keys if key.startswith("@")]
    view = ensemble.with_references(*references) if references else ensemble
    return view.select(keys)


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise InputError(
            f"`--samples` must be whole numbers separated by commas, not {text!r}."
        ) from error


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command()(join)
    app.command()(four_point)
    app.command()(explained)
    app.command()(subsets)
