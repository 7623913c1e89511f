"""The solver and the projection on arrays of another library, as on a GPU.

array-api-strict has what the standard promises and no more. On its `device1` an array refuses to
become NumPy's unasked: what passes here slips to the host nowhere but where `to_host` says so.
"""

import re
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest

import inpca
from inpca import InputError, ResourceError, TiledMatrix, backend
from inpca.backend import is_elsewhere, namespace, to_host, to_like
from inpca.embedding import solve as solve_module
from inpca.embedding.centring import CentredOperator
from inpca.embedding.lanczos import block_lanczos
from inpca.embedding.project import project
from inpca.embedding.resident import Device, ResidentTiles
from inpca.embedding.solve import SolveOptions, solve
from inpca.embedding.tiles import ArrayTiles

xp = pytest.importorskip("array_api_strict")
ELSEWHERE = xp.Device("device1")


def there(values):
    return xp.asarray(np.asarray(values), device=ELSEWHERE)


def distances(m=300, dimensions=12, seed=0):
    """Of points in Minkowski space, a third of whose axes are time-like, all at least 0."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(m, dimensions)) * 0.8 ** np.arange(dimensions)
    sign = np.where(np.arange(dimensions) % 3 == 2, -1.0, 1.0)
    gram = (x * sign) @ x.T
    own = np.diag(gram)
    values = np.abs(own[:, None] + own - 2 * gram)
    np.fill_diagonal(values, 0)
    return (values + values.T) / 2


@pytest.fixture(params=["one tile", "many tiles"])
def tiles(request, monkeypatch):
    """How a matrix on a device is cut."""
    if request.param == "many tiles":
        monkeypatch.setattr("inpca.embedding.tiles.DEVICE_TILE_SIZE", 96)
        monkeypatch.setattr("inpca.embedding.centring.DEVICE_STRIP", 40)


def test_cupy__has_what_the_solver_asks_of_a_namespace():
    """It can be looked at without a GPU."""
    cupy = pytest.importorskip("cupy", exc_type=ImportError)
    rooms = [Path(backend.__file__), *Path(solve_module.__file__).parent.glob("*.py")]
    asked = {name for room in rooms for name in re.findall(r"\bxp\.([\w.]+)", room.read_text())}
    assert {"linalg.qr", "sum", "all"} < asked
    apart = {"__name__", "astype", "linalg.diagonal"}  # asked of the standard's arrays alone
    for name in asked - apart:
        assert attrgetter(name)(cupy) is not None


def test_device1__does_not_become_numpys_unasked():
    with pytest.raises(RuntimeError, match="Can't convert"):
        np.asarray(there([1.0]))


def test_transfer__goes_there_and_back():
    values = np.arange(6.0).reshape(2, 3)
    copy = to_like(values, there([0.0]))
    assert copy.device == ELSEWHERE
    assert namespace(copy) is xp
    np.testing.assert_array_equal(to_host(copy), values)
    assert to_host(values) is to_like(values, None) is to_like(values, np.ones(1)) is values
    assert not is_elsewhere(values)


def test_operator__on_a_device_is_the_operator(tiles):
    D = distances()
    vectors = np.random.default_rng(1).normal(size=(len(D), 7))
    device, host = CentredOperator(there(D)), CentredOperator(D)
    image = device.apply(there(vectors))
    assert image.device == ELSEWHERE
    np.testing.assert_allclose(to_host(image), host.apply(vectors), atol=1e-10)
    np.testing.assert_allclose(device.row_means, host.row_means, rtol=1e-13)
    assert device.frobenius_norm == pytest.approx(host.frobenius_norm, rel=1e-12)
    np.testing.assert_allclose(device.dense(), host.dense(), atol=1e-12)


def test_norm__is_summed_again_on_the_device_where_it_cancels(tiles):
    """A constant far above the differences: the sums of the first pass lose them."""
    D = distances(60) * 1e-7 + 1
    np.fill_diagonal(D, 0)
    device, host = CentredOperator(there(D)), CentredOperator(D)
    assert device.frobenius_norm == pytest.approx(host.frobenius_norm, rel=1e-10)


def test_operator__of_float32_is_summed_in_float64(tiles):
    D = distances().astype(np.float32)
    vectors = np.random.default_rng(1).normal(size=(len(D), 3))
    image = to_host(CentredOperator(there(D)).apply(there(vectors)))
    assert image.dtype == np.float64
    np.testing.assert_allclose(image, CentredOperator(D).apply(vectors), atol=1e-9)


@pytest.mark.parametrize(("entry", "value"), [((3, 5), np.nan), ((2, 7), -1.0), ((4, 4), 1.0)])
def test_operator__names_a_bad_entry_of_a_device(entry, value):
    D = distances(40)
    D[entry] = D[entry[::-1]] = value
    with pytest.raises(InputError, match=rf"D\[{entry[0]}, {entry[1]}\]"):
        _ = CentredOperator(there(D)).row_means


def test_lanczos__on_a_device_gives_the_pairs_and_certificate(tiles):
    D = distances()
    device, host = CentredOperator(there(D)), CentredOperator(D)
    options = {"n": len(D), "k": 6, "block_size": 8}
    got = block_lanczos(
        device.apply, like=there(D), frobenius_norm=lambda: device.frobenius_norm, **options
    )
    expected = block_lanczos(host.apply, frobenius_norm=lambda: host.frobenius_norm, **options)
    assert isinstance(got.eigenvectors, np.ndarray)
    assert got.converged.all()
    np.testing.assert_allclose(got.eigenvalues, expected.eigenvalues, rtol=1e-9)
    np.testing.assert_allclose(got.eigenvectors, expected.eigenvectors, atol=1e-6)
    assert got.missed_bound == pytest.approx(expected.missed_bound, rel=1e-3)


def test_lanczos__on_a_device_fills_up_a_space_of_low_rank():
    D = distances(60, dimensions=2)
    operator = CentredOperator(there(D))
    result = block_lanczos(operator.apply, 60, 60, block_size=16, like=there(D))
    assert result.exhausted
    np.testing.assert_allclose(result.eigenvalues[2:], 0, atol=1e-8)


def test_lanczos__on_a_device_goes_on_from_its_checkpoint(tmp_path):
    D = distances()
    operator = CentredOperator(there(D))
    options = {"n": len(D), "k": 6, "block_size": 8, "like": there(D)}
    whole = block_lanczos(operator.apply, **options)
    passes = 0

    def interrupted(vectors):
        nonlocal passes
        passes += 1
        if passes == 3:
            raise KeyboardInterrupt
        return operator.apply(vectors)

    with pytest.raises(KeyboardInterrupt):
        block_lanczos(interrupted, checkpoint=tmp_path / "passes", **options)
    resumed = block_lanczos(operator.apply, checkpoint=tmp_path / "passes", **options)
    np.testing.assert_array_equal(resumed.eigenvectors, whole.eigenvectors)


def test_projection__on_a_device_gives_a_model_its_own_coordinates():
    D = distances(80)
    operator = CentredOperator(D)
    values, vectors = np.linalg.eigh(operator.dense())
    order = np.argsort(-np.abs(values))[:5]
    values, vectors = values[order], vectors[:, order]
    got = project(there(D[:9]), operator.row_means, operator.grand_mean, values, vectors)
    assert got.device == ELSEWHERE
    expected = vectors * np.sqrt(np.abs(values))
    np.testing.assert_allclose(to_host(got), expected[:9], atol=1e-9)


def test_tiles__of_a_device_are_views_there():
    tile = ArrayTiles(there(distances(10)), 4).read_tile((0, 2))
    assert (tile.shape, tile.device) == ((4, 2), ELSEWHERE)


def test_namespace__of_a_list_is_numpy():
    assert backend.namespace([1]) is np


# ----------------------------------------------------------------------------- D taken to a device


def device(memory=10**9):
    return Device("GPU 0 (strict)", memory, there([0.0]))


@pytest.mark.parametrize("side", [32, 50, 96, 1000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_resident_tiles__are_the_upper_triangle(monkeypatch, side, dtype):
    monkeypatch.setattr("inpca.embedding.tiles.DEVICE_TILE_SIZE", side)
    monkeypatch.setattr("inpca.embedding.tiles.ARRAY_TILE_SIZE", 40)
    D = distances(130).astype(dtype)
    resident = ResidentTiles(ArrayTiles(D, 40) if dtype == np.float32 else D, device(), "serial")
    for i, j in resident.grid.tiles():
        tile = resident.read_tile((i, j))
        assert tile.device == ELSEWHERE
        expected = D[resident.grid.band(i), resident.grid.band(j)]
        np.testing.assert_array_equal(to_host(tile), expected)
        assert to_host(tile).dtype == dtype


def test_resident_tiles__that_do_not_fit_are_refused_with_both_numbers():
    with pytest.raises(ResourceError, match=r"300 models .* need .* on GPU 0 .*backend='numba'"):
        ResidentTiles(distances(), device(10**5))


@pytest.fixture
def strict_gpu(monkeypatch):
    """A GPU that is array-api-strict's."""

    @contextmanager
    def place(backend, number):
        yield device() if backend == "cupy" else None

    monkeypatch.setattr(solve_module, "solver_device", place)


def test_solve__on_a_gpu_is_the_solve(strict_gpu, tiles, tmp_path):
    D = distances()
    expected = solve(D, 5, SolveOptions(solver="lanczos", block_size=16))
    matrix = TiledMatrix.create(tmp_path / "d.zarr", n_models=len(D), tile_size=70, fingerprint="")
    for tile in matrix.grid.tiles():
        rows, columns = (matrix.grid.band(band) for band in tile)
        matrix.write_tile(tile, D[rows, columns])
    options = SolveOptions(solver="lanczos", block_size=16, backend="cupy")
    for given, tolerance in ((D, 1e-9), (matrix, 1e-5)):
        got = solve(given, 5, options)
        np.testing.assert_allclose(got.eigenvalues, expected.eigenvalues, rtol=tolerance)
        np.testing.assert_allclose(got.row_means, expected.row_means, rtol=tolerance)
        assert got.solver == "lanczos"
        assert got.missed_bound < abs(got.eigenvalues[-1])


def test_solve__does_not_go_on_with_the_passes_of_another_backend(strict_gpu, tmp_path):
    options = {"solver": "lanczos", "block_size": 16, "checkpoint": tmp_path / "passes"}
    solve(distances(), 5, SolveOptions(**options), "D")
    with pytest.raises(InputError, match="belongs to another solve"):
        solve(distances(), 5, SolveOptions(backend="cupy", **options), "D")


def test_solve__says_what_a_gpu_lacks(monkeypatch):
    @contextmanager
    def little(backend, number):
        yield device(3 * 10**6)

    monkeypatch.setattr(solve_module, "solver_device", little)
    with pytest.raises(ResourceError, match=r"beside D .* are free on the GPU; lower `block_size`"):
        solve(distances(), 5, SolveOptions(solver="lanczos", backend="cupy"))


def test_solve__takes_no_cpu_for_a_gpu_unasked(monkeypatch):
    def none(device):
        raise ResourceError("there is none")

    monkeypatch.setattr("inpca.distance.choice.find_gpu", none)
    with pytest.raises(ResourceError, match="there is none"):
        solve(distances(60), 5, SolveOptions(backend="cupy"))
    assert solve(distances(60), 5, SolveOptions(backend="auto")).solver == "dense"


@pytest.mark.parametrize("solver", ["dense", "lanczos"])
def test_estimator__takes_distances_of_a_device(solver, tmp_path):
    D = distances(90)
    given = {"n_components": 4, "metric": "precomputed", "solver": solver, "block_size": 16}
    expected = inpca.InPCA(**given).fit(D)
    got = inpca.InPCA(checkpoint=tmp_path / "passes", **given).fit(there(D))
    np.testing.assert_allclose(got.embedding_, expected.embedding_, atol=1e-6)
    assert isinstance(got.embedding_, np.ndarray)
    projected = got.transform(there(D[:7]))
    assert isinstance(projected, np.ndarray)
    np.testing.assert_allclose(projected, got.embedding_[:7], atol=1e-5)
