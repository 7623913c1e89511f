"""scikit-learn's own checks of an estimator, on the precomputed path, by both solvers."""

import pickle
from collections.abc import Callable

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

import inpca


@parametrize_with_checks(
    [
        inpca.InPCA(n_components=2, metric="precomputed", executor="serial"),
        inpca.InPCA(n_components=2, metric="precomputed", solver="lanczos", executor="serial"),
    ]
)
def test_estimator__keeps_the_conventions(
    estimator: inpca.InPCA, check: Callable[[inpca.InPCA], None]
) -> None:
    check(estimator)


def embedded() -> tuple[inpca.InPCA, np.ndarray]:
    points = np.random.default_rng(0).normal(size=(20, 3))
    d = ((points[:, None] - points[None]) ** 2).sum(axis=-1)
    return inpca.InPCA(n_components=2, metric="precomputed").fit(d), d


def test_feature_names__are_one_per_component() -> None:
    assert embedded()[0].get_feature_names_out().tolist() == ["inpca0", "inpca1"]


def test_pandas_output__has_the_columns() -> None:
    embedding, d = embedded()
    frame = embedding.set_output(transform="pandas").transform(d)
    assert frame.columns.tolist() == ["inpca0", "inpca1"]


def test_pickle__transforms_the_same() -> None:
    embedding, d = embedded()
    again = pickle.loads(pickle.dumps(embedding))
    assert again.transform(d) == pytest.approx(embedding.transform(d), rel=1e-13, abs=1e-14)


def test_clone__is_unfitted_with_the_same_parameters() -> None:
    embedding, _ = embedded()
    copy = clone(embedding)
    assert copy.get_params() == embedding.get_params()
    assert not hasattr(copy, "embedding_")


def test_unfitted_embedding__says_so() -> None:
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError, match="not fitted"):
        inpca.InPCA(metric="precomputed").transform(np.zeros((2, 2)))
