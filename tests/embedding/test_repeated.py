"""Repeated eigenvalues, and libraries that give less than they are asked for."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import inpca
from inpca.embedding import dense
from inpca.embedding.dense import dense_eigenpairs
from inpca.errors import ResourceError

Array = NDArray[np.float64]


def with_spectrum(values: Array, seed: int = 0) -> Array:
    q = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values), len(values))))[0]
    w = (q * values) @ q.T
    return (w + w.T) / 2


def one_hot(m: int, n_classes: int) -> Array:
    """Constant predictors: each says one class for every sample."""
    return np.tile(np.eye(n_classes)[np.arange(m) % n_classes][:, None], (1, 3, 1))


@pytest.mark.filterwarnings("ignore:Eigenvalues .* closer than 10 residuals")
@pytest.mark.parametrize("solver", ["dense", "lanczos"])
@pytest.mark.parametrize(("m", "n_classes"), [(200, 4), (120, 3), (60, 10), (12, 4)])
def test_constant_predictors__have_each_copy_of_their_eigenvalue(
    m: int, n_classes: int, solver: str
) -> None:
    k = n_classes - 1
    embedding = inpca.InPCA(n_components=k, solver=solver).fit(one_hot(m, n_classes))
    # Groups of equal size at one distance d from each other: λ = d m / (2 n_classes), repeated.
    d = inpca.pairwise_distances(np.eye(n_classes)[:2, None])[0, 1]
    assert embedding.eigenvalues_ == pytest.approx(np.full(k, d * m / n_classes / 2), rel=1e-12)
    assert embedding.eigenvectors_.T @ embedding.eigenvectors_ == pytest.approx(
        np.eye(k), abs=1e-12
    )
    assert embedding.converged_.all()
    assert embedding.explained_stress_[-1] == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("copies", [(5, 3), (20, 20), (1, 39)])
@pytest.mark.parametrize("k", [1, 4, 10, 59])
def test_repeated_eigenvalues_at_both_ends__come_with_an_orthonormal_basis(
    copies: tuple[int, int], k: int
) -> None:
    high, low = copies
    values = np.concatenate([np.full(high, 3.0), np.full(low, -2.5), np.zeros(60 - high - low)])
    w = with_spectrum(values)
    found, vectors, residuals = dense_eigenpairs(w, k)
    expected = values[np.lexsort((-values, -np.abs(values)))][:k]
    assert found == pytest.approx(expected, abs=1e-12)
    assert vectors.T @ vectors == pytest.approx(np.eye(k), abs=1e-12)
    assert residuals.max() < 1e-12


def fewer(values: Array, vectors: Array) -> tuple[Array, Array]:
    return values[:-1], vectors[:, :-1]


def skewed(values: Array, vectors: Array) -> tuple[Array, Array]:
    vectors = vectors.copy()
    vectors[:, -1] = vectors[:, -2]
    return values, vectors


def zeroed(values: Array, vectors: Array) -> tuple[Array, Array]:
    return np.append(values[:-1], 0.0), vectors


def exchanged(values: Array, vectors: Array) -> tuple[Array, Array]:
    return values, vectors[:, ::-1]


def not_a_number(values: Array, vectors: Array) -> tuple[Array, Array]:
    return values, vectors * np.nan


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (fewer, "gave 29 eigenvalues instead of 30"),
        (skewed, "not orthonormal"),
        (zeroed, "do not add up"),
        (exchanged, "no eigenpairs"),
        (not_a_number, "NaN"),
    ],
)
def test_wrong_answer_of_lapack__is_refused(
    spoil: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lapack = dense.eigh
    monkeypatch.setattr(dense, "eigh", lambda w, **options: spoil(*lapack(w, **options)))
    with pytest.raises(ResourceError, match=message):
        dense_eigenpairs(with_spectrum(0.9 ** np.arange(30)), 3)


def test_lapack_that_gives_up__is_a_named_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(w: Array, **options: object) -> None:
        raise np.linalg.LinAlgError("did not converge")

    monkeypatch.setattr(dense, "eigh", fail)
    with pytest.raises(ResourceError, match="did not converge"):
        dense_eigenpairs(with_spectrum(0.9 ** np.arange(30)), 3)


def test_block_smaller_than_what_repeats__is_never_silent() -> None:
    # Three pairs that stand out of a long tail: a certificate is out of reach.
    x = np.random.default_rng(0).normal(size=(200, 200)) * [6, 5, 4, *np.ones(197)]
    d = ((x[:, None] - x[None]) ** 2).sum(axis=-1)
    estimator = inpca.InPCA(3, metric="precomputed", solver="lanczos", block_size=2)
    with pytest.warns(UserWarning, match="may lack copies.* raise `block_size` to 3"):
        estimator.fit(d)
