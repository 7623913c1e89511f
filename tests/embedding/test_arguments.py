"""Arguments that are none: an error that names them, never a raw one of what lies below."""

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import inpca
from inpca import InputError
from inpca.embedding.subsets import draw_samples

MODELS = np.random.default_rng(0).dirichlet(np.ones(3), size=(6, 20))
D = inpca.pairwise_distances(MODELS)
NAMES = ["a", "a", "b", "c", "d", "e"]


def precomputed(**options: object) -> inpca.InPCA:
    return inpca.InPCA(2, metric="precomputed", executor="serial", **options)


@pytest.mark.parametrize(
    "weights",
    [
        np.ones(6) + 1j,
        np.ones(6, complex),
        pd.Series(np.ones(6) + 1j),
        list("123456"),
        np.array([b"1"] * 6),
        pd.Series(list("123456")),
        np.array(["2020-01-01"] * 6, "M8[D]"),
        [10**400, 1, 1, 1, 1, 1],
        [[1], [1, 2]],
        {1: 2},
        [None] * 6,
    ],
)
def test_weights_that_are_no_real_numbers__are_refused_by_name(weights: object) -> None:
    with pytest.raises(InputError, match="`weights`"):
        precomputed().fit(D, weights=weights)
    with pytest.raises(InputError, match="`weights`"):
        inpca.explained_pairwise_distances(D, np.zeros((6, 1)), [1], weights=weights)


def test_name_that_a_table_has_twice__is_refused() -> None:
    for table in (pd.DataFrame(D, NAMES, NAMES), pd.DataFrame(D, columns=NAMES)):
        with pytest.raises(InputError, match="`X` must name each model once, but 'a'"):
            precomputed().fit(table)
        with pytest.raises(InputError, match="`X` must name each model once, but 'a'"):
            precomputed().fit(D).transform(table)


@pytest.mark.parametrize("seed", [-1, np.int64(-3), 1.5, "a"])
def test_random_state_that_is_no_seed__is_refused_before_the_work(seed: object) -> None:
    for solver in ("dense", "lanczos"):
        with pytest.raises(InputError, match="`random_state`"):
            precomputed(random_state=seed, solver=solver).fit(D)
    with pytest.raises(InputError, match="`random_state`"):
        draw_samples(5, 2, seed)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "values",
    [
        D[0],
        pd.Series(D[0]),
        3.0,
        None,
        {},
        D + 0j,
        D[:, :, None, None],
        D.astype(str),
        D.astype("M8[s]"),
        [[0, 10**400, 1, 1, 1, 1]] * 6,
        np.full((6, 6), np.nan),
        np.zeros((0, 6)),
    ],
)
def test_distances_that_are_none__are_refused_by_name(values: object) -> None:
    for use in (precomputed().fit, precomputed().fit(D).transform):
        with pytest.raises(InputError, match=r"`X`|D has NaN"):
            use(values)
    with pytest.raises(InputError, match=r"`D`|D has NaN"):
        precomputed().fit(D).join("other", values)


def test_error_of_what_scikit_learn_refuses__can_be_pickled() -> None:
    with pytest.raises(InputError) as caught:
        precomputed().fit({})
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize("s", [10**7, 2**64, 10**400])
def test_more_values_of_progress_than_there_can_be__are_refused(s: int) -> None:
    run = np.array([[[0.5, 0.5]], [[1.0, 0.0]]])
    with pytest.raises(InputError, match="`s` must be at most"):
        inpca.trajectory_distances([run, run], s=s, labels=[0])


@pytest.mark.parametrize(
    "name", ["a\0b", "a\ud800b", "a" * 300, "/".join(["a" * 200] * 30), 3, b"a", ""]
)
def test_path_that_the_system_cannot_have__is_refused(tmp_path: Path, name: object) -> None:
    path = f"{tmp_path}/{name}" if isinstance(name, str) and name else name
    run = np.array([[[0.5, 0.5]], [[1.0, 0.0]]])
    for use in (
        lambda: inpca.create_ensemble(path, sample_sets={"train": [0, 1]}, n_classes=2),
        lambda: inpca.open_ensemble(path),
        lambda: inpca.load_embedding(path),
        lambda: precomputed().fit(D).save(path),
        lambda: precomputed(solver="lanczos", checkpoint=path).fit(D),
        lambda: precomputed().fit(D, init=path),
        lambda: inpca.pairwise_distances(MODELS, out=path),
        lambda: inpca.TiledMatrix.open(path),
        lambda: inpca.trajectory_distances([run, run], s=3, labels=[0], out=path),
    ):
        with pytest.raises(InputError, match=r"`(path|out|init|checkpoint)` must be"):
            use()
    assert not list(tmp_path.iterdir())
