"""The verb that asks which samples bend the manifold."""

from pathlib import Path
from typing import Annotated, Any

import typer

import inpca
from inpca.cli.options import EnsemblePath, Json, Memory, Quiet, Workers
from inpca.cli.services import check_output, one_embedding, print_json, print_table, say
from inpca.errors import InputError


def attribution(
    path: EnsemblePath,
    name: Annotated[str, typer.Option("--name", "-n", help="the embedding")] = "train",
    samples: Annotated[
        Path | None,
        typer.Option(
            "--samples",
            help="file with the chosen samples' numbers, one a line, from 0, such as `inpca "
            "inversion --stragglers` writes",
        ),
    ] = None,
    late: Annotated[
        float,
        typer.Option(
            "--late",
            help="without --samples: this share of the samples, those learnt last on average over "
            "the runs of the embedding (never counts as at the end); most stragglers are among "
            "them, but a straggler is wrong at the inversion, whenever it is learnt; give those "
            "with --samples",
        ),
    ] = 0.1,
    components: Annotated[
        int, typer.Option("--components", "-k", help="coordinates; 0: all of the embedding")
    ] = 0,
    split: Annotated[
        bool,
        typer.Option(
            "--split",
            help="also embed by the chosen samples alone, and by the others; "
            "the embeddings are saved as NAME-chosen and NAME-rest",
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="CSV file: shares of every sample; the progress at which it is learnt for good, "
            "on average over the runs of the embedding that learn it (learnt_at, empty if none "
            "does); how many of them do not (never_learnt)",
        ),
    ] = None,
    memory: Memory = "",
    workers: Workers = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Share of chosen samples in each coordinate, beside that of as many average ones.

    With --split also explained pairwise distances (Eq. 12) of the models embedded by the chosen
    samples alone, and by the rest: of the distances over these samples (own), and of those over
    all samples (all). Below 0: further from the distances than no coordinates at all.
    """
    from inpca.geometry.attribution import attribution as attribute
    from inpca.geometry.attribution import sample_mask
    from inpca.geometry.learning import learning_table
    from inpca.geometry.split import split_embedding

    check_output(output)
    if not 0 < late < 1:
        raise InputError(f"`--late` must be a share between 0 and 1, not {late}.")
    ensemble = inpca.open_ensemble(path)
    embedding = inpca.load_embedding(ensemble.embeddings_path(name))
    sample_set = embedding.sample_set_ or embedding.sample_set
    given = None
    if samples is not None:
        given = _read_samples(samples, len(ensemble.sample_sets[sample_set].labels))
    options: dict[str, Any] = {"memory": memory or None, "progress": not quiet}
    learnt = None
    if samples is None or output is not None:
        trained = _runs_of(ensemble, embedding)
        learnt = learning_table(trained, sample_set=sample_set, **options)
    options["executor"] = workers or None
    found = attribute(ensemble, embedding, n_components=components or None, **options)
    chosen = sample_mask(_latest(learnt, late) if given is None else given, len(found.parts))
    if output is not None:
        assert learnt is not None
        _write(output, learnt, found.shares, chosen)
    compared, parts = found.compare(chosen).reset_index(), None
    if split:
        matrix = inpca.TiledMatrix.open(ensemble.distances_path(name))
        view = ensemble.with_references().select(list(matrix.models.index))
        options |= {"n_components": len(compared), "sample_set": sample_set}
        found_apart = split_embedding(view, matrix, chosen, **options)
        _save(ensemble, name, found_apart.embeddings)
        parts = found_apart.explained
    _show(compared, parts, as_json)


def _latest(learnt: Any, late: float) -> Any:
    """The samples that are learnt last on average, a mask; never counts as at the end, 1."""
    rank = learnt.fillna(1.0).mean(axis=1).rank(method="first")
    return (rank > (1 - late) * len(learnt)).to_numpy()


def _runs_of(ensemble: Any, embedding: Any) -> Any:
    """The runs that the embedding has models of, with all of their checkpoints."""
    if embedding.models_ is None:
        return ensemble
    models = ensemble.models
    return ensemble.select(list(models.index[models["run"].isin(embedding.models_["run"])]))


def _write(output: Path, learnt: Any, shares: Any, chosen: Any) -> None:
    from inpca.csv_files import write_csv

    columns = {f"share_{k + 1}": share for k, share in enumerate(shares.T)}
    table = learnt.mean(axis=1).to_frame("learnt_at").assign(never_learnt=learnt.isna().sum(axis=1))
    write_csv(table.assign(**columns, chosen=chosen), output)


def _save(ensemble: Any, name: str, embeddings: Any) -> None:
    for part, embedding in embeddings.items():
        place = ensemble.embeddings_path(f"{name}-{part}")
        with one_embedding(ensemble, place):
            verb = "replacing" if place.exists() else "saving"
            say(f"{verb} the embedding {place.name}", err=True)
            embedding.save(place, overwrite=True)


def _show(compared: Any, parts: Any, as_json: bool) -> None:
    if as_json:
        record = {"coordinates": compared.to_dict(orient="records")}
        if parts is not None:
            record["explained"] = parts.to_dict(orient="records")
        print_json(record)
        return
    print_table(compared, as_json=False)
    if parts is not None:
        say("\nexplained pairwise distances of each set of samples alone:")
        print_table(parts, as_json=False)


def _read_samples(path: Path, n_samples: int) -> Any:
    """Numbers of samples from a file, one a line; refuses none and what is outside."""
    import numpy as np

    from inpca.opening import read_regular

    try:
        numbers = [int(line) for line in read_regular(path, missing=" for `--samples`.").split()]
    except ValueError as error:
        raise InputError(
            f"`--samples` {path} must hold whole numbers, one a line ({error})."
        ) from error
    outside = [number for number in numbers if not 0 <= number < n_samples]
    if outside or not numbers:
        raise InputError(
            f"`--samples` {path} must hold samples' numbers in 0 … {n_samples - 1}, not "
            f"{outside[0] if outside else 'nothing'}."
        )
    return np.array(numbers)


def register(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command()(attribution)
