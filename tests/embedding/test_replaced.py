"""Matrices on disk that are replaced by others while they are read."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import inpca
from inpca import InputError


def probs(m: int = 60, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet([0.3, 0.3, 0.3], size=(m, 4))


def compute(path: Path, metric: str = "bhattacharyya", seed: int = 0, m: int = 60, **options):
    return inpca.pairwise_distances(
        probs(m, seed), metric=metric, out=path, tile_size=16, **options
    )


REPLACEMENTS: dict[str, Callable[[Path], object]] = {
    "other metric": lambda path: compute(path, "jeffreys", restart=True),
    "other data": lambda path: compute(path, seed=1, restart=True),
    "more models": lambda path: compute(path, m=70, extend=True),
    "other tiles": lambda path: inpca.pairwise_distances(
        probs(), out=path, tile_size=32, restart=True
    ),
}


def when(done: float, action: Callable[[], object]) -> Callable[[float, float, str], None]:
    """A report of progress that acts once, as soon as so many passes are done."""
    left = [action]

    def report(now: float, total: float, text: str) -> None:
        if now >= done and left:
            left.pop()()

    return report


@pytest.mark.parametrize("replacement", REPLACEMENTS)
@pytest.mark.parametrize(
    ("solver", "after"), [("lanczos", 0.3), ("lanczos", 2.0), ("dense", 0.5), ("dense", 1.0)]
)
def test_matrix_replaced_during_a_solve__is_refused_by_name(
    replacement: str, solver: str, after: float, tmp_path: Path
) -> None:
    matrix = compute(tmp_path / "d.zarr")
    report = when(after, lambda: REPLACEMENTS[replacement](matrix.path))
    estimator = inpca.InPCA(
        3, metric="precomputed", solver=solver, block_size=4, executor="serial", progress=report
    )
    with pytest.raises(InputError, match="was replaced by another matrix while it was read"):
        estimator.fit(matrix)
    assert not hasattr(estimator, "embedding_")


@pytest.mark.parametrize("weighted", [False, True])
def test_matrix_replaced_between_passes__is_refused_when_the_solve_resumes(
    weighted: bool, tmp_path: Path
) -> None:
    matrix = compute(tmp_path / "d.zarr")
    weights = np.arange(60.0) if weighted else None
    options = {"metric": "precomputed", "solver": "lanczos", "block_size": 4}
    options |= {"checkpoint": tmp_path / "passes", "executor": "serial"}
    inpca.InPCA(3, **options).fit(matrix, weights=weights)  # every pass is there
    compute(matrix.path, "jeffreys", restart=True)
    with pytest.raises(InputError, match="was replaced by another matrix"):
        inpca.InPCA(3, **options).fit(matrix, weights=weights)
    again = inpca.TiledMatrix.open(matrix.path)
    with pytest.raises(InputError, match="belongs to another solve"):
        inpca.InPCA(3, **options).fit(again, weights=weights)


def test_same_input_of_another_metric__is_another_matrix_to_a_checkpoint(tmp_path: Path) -> None:
    d = inpca.pairwise_distances(probs())
    options = {"metric": "precomputed", "solver": "lanczos", "checkpoint": tmp_path / "passes"}
    for metric in ("one", "two"):
        matrix = inpca.TiledMatrix.create(
            tmp_path / "d.zarr", n_models=60, tile_size=16, fingerprint="by hand",
            attrs={"metric": metric}, overwrite=True,
        )  # fmt: skip
        for i, j in matrix.grid.tiles():
            matrix.write_tile((i, j), d[matrix.grid.band(i), matrix.grid.band(j)])
        if metric == "one":
            former = matrix
            inpca.InPCA(3, **options).fit(matrix)
    with pytest.raises(InputError, match="belongs to another solve"):
        inpca.InPCA(3, **options).fit(matrix)
    with pytest.raises(InputError, match="was replaced"):
        former.check_unchanged()


@pytest.mark.parametrize("replacement", ["other metric", "more models"])
def test_matrix_replaced_since_it_was_opened__is_refused_by_all_that_read_it(
    replacement: str, tmp_path: Path
) -> None:
    matrix = compute(tmp_path / "d.zarr")
    x = inpca.InPCA(3, metric="precomputed").fit(matrix)
    REPLACEMENTS[replacement](matrix.path)
    readers: list[Callable[[], object]] = [
        lambda: x.join("test", matrix),
        lambda: inpca.explained_pairwise_distances(matrix, x.embedding_, x.signature_),
        lambda: inpca.InPCA(3, metric="precomputed").fit(matrix),
    ]
    if replacement != "more models":  # which has the tiles of the former
        readers += [lambda: x.transform(matrix.rows(slice(0, 3))), matrix.to_array]
    for read in readers:
        with pytest.raises(InputError, match="was replaced by another matrix"):
            read()


def test_selected_models_of_a_replaced_matrix__are_refused(
    small_ensemble: inpca.Ensemble,
) -> None:
    path = small_ensemble.distances_path("train")
    matrix = inpca.pairwise_distances(small_ensemble, out=path, tile_size=5)
    report = when(
        0.3,
        lambda: inpca.pairwise_distances(
            small_ensemble, metric="jeffreys", out=path, tile_size=5, restart=True
        ),
    )
    estimator = inpca.InPCA(2, executor="serial", progress=report)
    with pytest.raises(InputError, match="was replaced by another matrix"):
        estimator.fit(matrix, models="run != 'run-1'")


def test_matrix_that_is_finished_or_repaired_meanwhile__is_the_same(tmp_path: Path) -> None:
    matrix = compute(tmp_path / "d.zarr")
    matrix.update_attrs({"finished": False, "note": "by another process"})
    opened = inpca.TiledMatrix.open(matrix.path)
    compute(matrix.path, repair=True)
    inpca.InPCA(3, metric="precomputed").fit(opened)
