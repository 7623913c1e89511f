"""W = −½ L D L as an operator: against the matrix itself, whatever D looks like."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from inpca import InputError
from inpca.embedding.centring import CentredOperator
from inpca.embedding.tiles import ArrayTiles, check_distances


def distances(m: int, seed: int = 0, offset: float = 0.0) -> NDArray[np.float64]:
    """Squared distances of random points, plus `offset` between any two different ones."""
    points = np.random.default_rng(seed).normal(size=(m, 5))
    squares = ((points[:, None] - points[None]) ** 2).sum(axis=-1)
    return squares + offset * (1 - np.eye(m))


def centred(d: NDArray[np.float64]) -> NDArray[np.float64]:
    """−½ L D L in long double, the slow and obvious way."""
    exact = d.astype(np.longdouble)
    rows = exact.mean(axis=1)
    return -(exact - rows[:, None] - rows[None] + rows.mean()) / 2


@given(m=st.integers(1, 40), tile_size=st.integers(1, 45), seed=st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_operator__is_the_centred_matrix_for_any_tiling(m: int, tile_size: int, seed: int) -> None:
    d = distances(m, seed)
    operator = CentredOperator(ArrayTiles(d, tile_size), executor="serial")
    vectors = np.random.default_rng(seed).normal(size=(m, 3))
    expected = centred(d).astype(float)
    scale = max(np.abs(d).max(), 1e-300)
    assert operator.apply(vectors) == pytest.approx(expected @ vectors, abs=1e-13 * m * scale)
    assert operator.dense() == pytest.approx(expected, abs=1e-14 * scale)
    assert operator.row_means == pytest.approx(d.mean(axis=1), abs=1e-14 * scale)
    assert operator.grand_mean == pytest.approx(d.mean(), abs=1e-14 * scale)
    assert operator.frobenius_norm == pytest.approx(np.linalg.norm(expected), rel=1e-12)


def test_centred_matrix__has_rows_of_sum_zero() -> None:
    operator = CentredOperator(distances(30))
    assert operator.apply(np.ones((30, 1))) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
def test_frobenius_norm__survives_a_large_common_distance(offset: float) -> None:
    # L D L does not see a constant: only the diagonal, which stays 0, turns into identity.
    d = distances(60, offset=offset)
    exact = np.sqrt((centred(d) ** 2).sum())
    assert CentredOperator(ArrayTiles(d, 16)).frobenius_norm == pytest.approx(float(exact))


def test_frobenius_norm__survives_rows_that_differ_by_much_more_than_w() -> None:
    # D_uv = s_u + s_v + little: the sums of the first pass lose W, the second reading finds it.
    rng = np.random.default_rng(3)
    s = rng.uniform(0, 1e6, size=80)
    little = distances(80)
    d = (s[:, None] + s[None]) * 1.0 + little
    expected = float(np.sqrt((centred(d) ** 2).sum()))
    operator = CentredOperator(ArrayTiles(d, 32))
    # A sum over (D − c)² is 1e12 times larger than ‖W‖_F²: its rounding alone would be 1e-4.
    operator._check_entries = lambda measure: None  # type: ignore[method-assign]
    assert operator.frobenius_norm == pytest.approx(expected, rel=1e-9)


def test_every_worker_count__gives_the_same_bytes() -> None:
    d = distances(130).astype(np.float32)
    vectors = np.random.default_rng(0).normal(size=(130, 8))
    results = [
        (operator.apply(vectors), operator.row_means, operator.frobenius_norm)
        for operator in (CentredOperator(ArrayTiles(d, 16), n) for n in ("serial", 1, 2, 5))
    ]
    for product, means, norm in results[1:]:
        assert product.tobytes() == results[0][0].tobytes()
        assert means.tobytes() == results[0][1].tobytes()
        assert norm == results[0][2]


def test_a_pass__reads_each_tile_once() -> None:
    class Counting(ArrayTiles):
        reads: list[tuple[int, int]]

        def read_tile(self, tile):  # type: ignore[no-untyped-def]
            self.reads.append(tile)
            return super().read_tile(tile)

    tiles = Counting(distances(50), 16)
    operator = CentredOperator(tiles, executor=2)
    for first in (1, 0):  # the first pass also reads the first tile, to learn the size of D
        tiles.reads = []
        operator.apply(np.ones((50, 2)))
        assert sorted(tiles.reads) == [(0, 0)] * first + list(tiles.grid.tiles())
    assert operator.row_means.shape == (50,)
    assert len(tiles.reads) == tiles.grid.n_tiles


def test_a_pass__reports_its_tiles() -> None:
    seen: list[tuple[int, int]] = []
    operator = CentredOperator(
        ArrayTiles(distances(50), 16), report=lambda done, total: seen.append((done, total))
    )
    operator.apply(np.ones((50, 2)))
    assert seen == [(done, 10) for done in range(1, 11)]


BAD = {
    "NaN": ((3, 7), np.nan, r"NaN or infinite.*D\[3, 7\]"),
    "infinite": ((3, 7), np.inf, r"NaN or infinite.*D\[3, 7\]"),
    "negative": ((3, 7), -1.0, r"Negative values.*D\[3, 7\] = -1"),
    "asymmetric": ((3, 7), 1.0, r"not symmetric: D\[3, 7\]"),
    "diagonal": ((5, 5), 1.0, r"D\[5, 5\] = 1, but the distance of a model to itself"),
}


@pytest.mark.parametrize("case", BAD)
def test_array_that_is_no_distance_matrix__is_refused_by_entry(case: str) -> None:
    (u, v), value, message = BAD[case]
    d = distances(12)
    d[u, v] = value
    with pytest.raises(InputError, match=message):
        check_distances(d)


@pytest.mark.parametrize("case", ["NaN", "infinite", "negative", "diagonal"])
def test_tiles_that_are_no_distances__are_refused_by_entry(case: str) -> None:
    (u, v), value, message = BAD[case]
    d = distances(12)
    d[u, v] = value
    with pytest.raises(InputError, match=message):
        _ = CentredOperator(ArrayTiles(d, 4)).row_means


def test_asymmetry_far_from_the_first_tile__is_found() -> None:
    d = distances(1100)
    d[1090, 4] += 0.1
    with pytest.raises(InputError, match=r"not symmetric: D\[4, 1090\]"):
        check_distances(d)


def test_rounding_in_float32__is_not_refused() -> None:
    d = distances(40).astype(np.float32)
    d[3, 7] = np.nextafter(d[3, 7], np.float32(0))
    check_distances(d)


def test_array_that_is_not_square__is_refused() -> None:
    with pytest.raises(InputError, match=r"square matrix, not an array of shape \(3, 4\)"):
        check_distances(np.zeros((3, 4)))
