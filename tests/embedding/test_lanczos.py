"""Block Lanczos: its identities, its residuals, its certificate; LAPACK is the oracle."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import inpca
from inpca import DamagedStoreError, InputError
from inpca.embedding.centring import CentredOperator
from inpca.embedding.krylov import KrylovSpace, PassState
from inpca.embedding.lanczos import LanczosResult, block_lanczos
from inpca.embedding.pairs import order_by_magnitude

Array = NDArray[np.float64]
M = 2000
SPECTRA: dict[str, Array] = {
    "geometric 0.8": 0.8 ** np.arange(M),
    "geometric 0.9": 0.9 ** np.arange(M),
    "geometric 0.97": 0.97 ** np.arange(M),
    "power law 1": 1.0 / np.arange(1, M + 1),
    "power law 2": 1.0 / np.arange(1.0, M + 1) ** 2,
}
TRAININGS = "trainings"
MOST_PASSES = {10: 5, 50: 8}
# To a residual of 1e-6 of each |λ_i|, which is stricter, only the slow power law takes more.
MOST_PASSES_EACH = {("power law 1", 10): 6}


@cache
def rotation(m: int) -> Array:
    return np.linalg.qr(np.random.default_rng(7).normal(size=(m, m)))[0]


def with_spectrum(values: Array) -> Array:
    q = rotation(len(values))
    w = (q * values) @ q.T
    return (w + w.T) / 2


def signed(magnitudes: Array) -> Array:
    """A quarter of the eigenvalues negative."""
    rng = np.random.default_rng(1)
    return magnitudes * np.where(rng.random(len(magnitudes)) < 0.25, -1, 1)


@cache
def large(name: str) -> Array:
    return with_spectrum(signed(magnitudes(name)))


def solve(w: Array, k: int, **options: object) -> LanczosResult:
    norm = float(np.linalg.norm(w))
    return block_lanczos(lambda v: w @ v, len(w), k, frobenius_norm=norm, **options)  # type: ignore[arg-type]


def true_residuals(w: Array, result: LanczosResult) -> Array:
    vectors = result.eigenvectors
    return np.linalg.norm(w @ vectors - vectors * result.eigenvalues, axis=0)


@cache
def magnitudes(name: str) -> Array:
    return spectrum_of_trainings() if name == TRAININGS else SPECTRA[name]


@cache
def spectrum_of_trainings() -> Array:
    """|λ| of W of 40 made-up runs of 50 checkpoints, from ignorance to saturation."""
    rng = np.random.default_rng(5)
    truth = np.eye(4)[rng.integers(0, 4, size=50)]
    t = np.linspace(0, 1, 50)[:, None, None]
    runs = []
    for _ in range(40):
        detour, end, speed = (rng.normal(size=(50, 4)) for _ in range(3))
        runs.append(
            30 * t**2 * truth + 5 * t * (1 - t) * detour + 2 * t * end + np.sin(9 * t) * speed
        )
    d = inpca.pairwise_distances(np.concatenate(runs), kind="logits")
    values = np.linalg.eigvalsh(CentredOperator(d).dense())
    return np.sort(np.abs(values))[::-1]


@pytest.mark.parametrize("relative_to", ["largest", "each"])
@pytest.mark.parametrize("name", [*SPECTRA, TRAININGS])
def test_lanczos__agrees_with_the_spectrum_in_few_passes(name: str, relative_to: str) -> None:
    values = signed(magnitudes(name))
    values = values[order_by_magnitude(values)]
    w = large(name)
    for k, most in MOST_PASSES.items():
        result = solve(w, k, relative_to=relative_to)
        assert np.abs(result.eigenvalues - values[:k]).max() <= 1e-9 * abs(values[0])
        assert result.converged.all()
        rounding = 1e-13 * abs(values[0])
        assert true_residuals(w, result) == pytest.approx(result.residuals, abs=rounding)
        allowed = abs(values[0]) if relative_to == "largest" else np.abs(values[:k])
        assert (result.residuals <= 1e-6 * allowed + rounding).all()
        if relative_to == "each":
            most = MOST_PASSES_EACH.get((name, k), most)
        assert result.n_passes <= most


def test_lanczos__is_lapack_on_vectors_too() -> None:
    w = with_spectrum(signed(SPECTRA["geometric 0.9"][:300]))
    result = solve(w, 6, tol=1e-10)
    values, vectors = np.linalg.eigh(w)
    vectors = vectors[:, order_by_magnitude(values)[:6]]
    overlap = np.abs(np.sum(vectors * result.eigenvectors, axis=0))
    assert overlap == pytest.approx(1, abs=1e-10)


@given(
    n=st.integers(2, 60), block=st.integers(1, 70), rank=st.integers(0, 60), seed=st.integers(0, 5)
)
@settings(max_examples=40, deadline=None)
def test_krylov_space__satisfies_its_identities(n: int, block: int, rank: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(n, min(rank, n)))
    w = (factors * rng.choice([-1, 1], size=factors.shape[1])) @ factors.T
    space = KrylovSpace.start(n, min(block, n), seed)
    for _ in range(4):
        if space.is_everything:
            break
        space.add(*space.expand(lambda v: w @ v))
    q = np.concatenate(space.blocks[: space.n_passes], axis=1)
    rest = w @ q - q @ space.projected()
    last = space.columns[-1].shape[1]
    scale = max(np.abs(w).max(), 1e-300) * n
    assert q.T @ q == pytest.approx(np.eye(q.shape[1]), abs=1e-12)
    # A Q − Q T = Q_next R on the last block and zero before it.
    assert rest[:, :-last] == pytest.approx(0, abs=1e-12 * scale)
    assert rest[:, -last:] == pytest.approx(space.blocks[-1] @ space.coupling, abs=1e-12 * scale)
    assert space.projected() == pytest.approx(q.T @ w @ q, abs=1e-12 * scale)


@pytest.mark.parametrize("width", [2, 7, 40])
def test_cluster__is_found_whole_and_named(width: int) -> None:
    values = 0.9 ** np.arange(400.0)
    values[3 : 3 + width] = values[3] * (1 + 1e-14 * np.arange(width))
    result = solve(with_spectrum(values), 5 + width)
    expected = np.sort(values)[::-1][: 5 + width]
    assert result.eigenvalues == pytest.approx(expected, abs=1e-9)
    assert {index for pair in result.clusters for index in pair} == set(range(3, 3 + width))


def test_opposite_eigenvalues__are_told_apart() -> None:
    values = 0.8 ** np.arange(300.0)
    values[1] = -values[0]
    result = solve(with_spectrum(values), 4)
    assert result.eigenvalues[:2] == pytest.approx([1, -1], abs=1e-12)
    assert result.clusters == ()


@pytest.mark.parametrize("rank", [0, 1, 5, 64, 100])
def test_low_rank__gives_exact_zeros_after_it(rank: int) -> None:
    values = np.zeros(300)
    values[:rank] = signed(np.linspace(2, 1, rank))
    result = solve(with_spectrum(values), 110, block_size=64)
    expected = values[order_by_magnitude(values)][:110]
    assert result.eigenvalues == pytest.approx(expected, abs=1e-12)
    assert result.converged.all()


def test_space_that_is_everything__is_exact_and_misses_nothing() -> None:
    values = signed(np.linspace(2, 1, 90))
    result = solve(with_spectrum(values), 90, block_size=32)
    assert result.exhausted
    assert result.nothing_missed
    assert result.eigenvalues == pytest.approx(values[order_by_magnitude(values)], abs=1e-12)


def test_eigenvalue_repeated_more_often_than_the_block__is_found_if_the_space_ends() -> None:
    values = np.concatenate([np.full(100, 2.0), np.full(100, 1.0), np.zeros(100)])
    result = solve(with_spectrum(values), 120, block_size=64)
    assert result.eigenvalues == pytest.approx(np.repeat([2.0, 1.0], [100, 20]), abs=1e-10)


def test_certificate__bounds_what_the_space_does_not_know() -> None:
    values = signed(SPECTRA["geometric 0.9"][:600])
    w = with_spectrum(values)
    result = solve(w, 10)
    assert result.nothing_missed
    assert result.missed_bound is not None
    # Whatever is orthogonal to the space: no larger than the bound. A start block that cannot
    # see the first eigenvector proves it.
    blind = rotation(600)[:, :1]

    def apply_without_it(v: Array) -> Array:
        v = v - blind @ (blind.T @ v)
        product = w @ v
        return product - blind @ (blind.T @ product)

    missed = block_lanczos(apply_without_it, 600, 10, frobenius_norm=float(np.linalg.norm(w)))
    assert missed.nothing_missed is False
    assert missed.missed_bound is not None
    assert missed.missed_bound >= abs(values[0]) * (1 - 1e-9)


def test_without_the_norm__the_certificate_is_not_claimed() -> None:
    w = with_spectrum(0.8 ** np.arange(300.0))
    assert block_lanczos(lambda v: w @ v, 300, 3).nothing_missed is None


def test_too_few_passes__are_told_by_the_result() -> None:
    w = with_spectrum(signed(SPECTRA["power law 1"][:500]))
    result = solve(w, 10, block_size=10, max_passes=2)
    assert result.n_passes == 2
    assert not result.converged.all()
    assert true_residuals(w, result) == pytest.approx(result.residuals, abs=1e-13)
    assert "of 10 pairs converged" in result.describe()


def test_report__names_pass_residual_and_pairs() -> None:
    seen: list[PassState] = []
    w = with_spectrum(0.9 ** np.arange(300.0))
    result = solve(w, 3, report=seen.append, block_size=10)
    assert [state.n_passes for state in seen] == list(range(1, result.n_passes + 1))
    assert [len(state.residuals) for state in seen] == [3] * result.n_passes
    assert re.fullmatch(r"3/3 converged, worst residual \d.\de-\d\d \|λ₁\|", seen[-1].describe())


def test_same_seed__same_bytes_and_another_seed_the_same_numbers() -> None:
    w = with_spectrum(0.9 ** np.arange(300.0))
    first, again, other = (solve(w, 5, random_state=seed) for seed in (3, 3, 4))
    assert first.eigenvectors.tobytes() == again.eigenvectors.tobytes()
    assert other.eigenvectors == pytest.approx(first.eigenvectors, abs=1e-6)
    assert (np.abs(first.eigenvectors).max(axis=0) == first.eigenvectors.max(axis=0)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "`k` must be in 1 … n = 30, not 0"),
        ({"k": 31}, "`k` must be in 1 … n = 30, not 31"),
        ({"block_size": 0}, "`block_size` must be at least 1"),
        ({"tol": 0.0}, "`tol` must be positive"),
        ({"relative_to": "norm"}, "`relative_to` must be one of each, largest, not 'norm'"),
        ({"start": np.ones((29, 2))}, r"`start` must hold finite vectors of 30 .* \(29, 2\)"),
        ({"start": np.full((30, 1), np.nan)}, "`start` must hold finite vectors"),
        ({"k": 20, "block_size": 2, "max_passes": 3}, "at most 6 dimensions, fewer than the 20"),
    ],
)
def test_bad_arguments__are_refused(change: dict[str, float], message: str) -> None:
    arguments = {"n": 30, "k": 3} | change
    with pytest.raises(InputError, match=message):
        block_lanczos(lambda v: v, **arguments)  # type: ignore[arg-type]


def test_operator_that_gives_nan__is_refused() -> None:
    with pytest.raises(InputError, match="NaN or infinite"):
        block_lanczos(lambda v: v * np.nan, 30, 3)


# --- a start from former vectors -----------------------------------------------------------------


def test_start_from_the_vectors_themselves__takes_one_pass() -> None:
    w = with_spectrum(signed(SPECTRA["power law 1"][:500]))
    first = solve(w, 10, tol=1e-8)
    again = solve(w, 10, tol=1e-6, start=first.eigenvectors)
    assert (first.n_passes, again.n_passes) == (4, 1)
    assert again.eigenvalues == pytest.approx(first.eigenvalues, abs=1e-12)


def test_start_from_zeros_or_from_too_many_vectors__is_taken() -> None:
    w = with_spectrum(signed(SPECTRA["geometric 0.8"][:300]))
    expected = solve(w, 5).eigenvalues
    for start in (np.zeros((300, 4)), rotation(300)[:, :200], np.ones((300, 3))):
        found = solve(w, 5, start=start, block_size=40)
        assert found.eigenvalues == pytest.approx(expected, abs=1e-11)


def test_checkpoint_with_another_start__is_refused(tmp_path: Path) -> None:
    w = with_spectrum(0.9 ** np.arange(100.0))
    solve(w, 3, block_size=8, checkpoint=tmp_path)
    with pytest.raises(InputError, match="belongs to another solve"):
        solve(w, 3, block_size=8, checkpoint=tmp_path, start=np.ones((100, 1)))


# --- checkpoints -----------------------------------------------------------------------------


class Stopped(Exception):
    """What stands for a kill inside the process."""


def stopping(w: Array, after: int) -> Callable[[Array], Array]:
    calls = iter(range(after))

    def apply(v: Array) -> Array:
        if next(calls, None) is None:
            raise Stopped
        return w @ v

    return apply


def counting(w: Array) -> tuple[Callable[[Array], Array], list[int]]:
    calls: list[int] = []

    def apply(v: Array) -> Array:
        calls.append(1)
        return w @ v

    return apply, calls


def test_interrupted_solve__goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    w = with_spectrum(signed(SPECTRA["geometric 0.97"][:500]))
    whole = block_lanczos(lambda v: w @ v, 500, 10, block_size=16)
    for stop in (1, 2, 1):
        with pytest.raises(Stopped):
            block_lanczos(stopping(w, stop), 500, 10, block_size=16, checkpoint=tmp_path)
    apply, calls = counting(w)
    result = block_lanczos(apply, 500, 10, block_size=16, checkpoint=tmp_path)
    assert len(calls) == whole.n_passes - 4
    assert result.n_passes == whole.n_passes
    assert result.eigenvectors.tobytes() == whole.eigenvectors.tobytes()
    assert result.residuals.tobytes() == whole.residuals.tobytes()


KILLED = """
import os, signal, sys
import numpy as np
from inpca.embedding.lanczos import block_lanczos
w = np.load(sys.argv[1])
calls = []
def apply(v):
    calls.append(1)
    if len(calls) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return w @ v
block_lanczos(apply, len(w), 10, block_size=16, checkpoint=sys.argv[2])
"""


def test_killed_solve__goes_on_from_its_last_pass(tmp_path: Path) -> None:
    w = with_spectrum(signed(SPECTRA["geometric 0.97"][:300]))
    np.save(tmp_path / "w.npy", w)
    folder = tmp_path / "solve"
    command = [sys.executable, "-c", KILLED, str(tmp_path / "w.npy"), str(folder)]
    killed = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(folder.glob("pass-*.npz"))) == 3
    apply, calls = counting(w)
    result = block_lanczos(apply, 300, 10, block_size=16, checkpoint=folder)
    whole = block_lanczos(lambda v: w @ v, 300, 10, block_size=16)
    assert len(calls) == whole.n_passes - 3
    assert result.eigenvectors.tobytes() == whole.eigenvectors.tobytes()


def test_checkpoint_of_another_operator__is_refused(tmp_path: Path) -> None:
    w = with_spectrum(0.9 ** np.arange(100.0))
    block_lanczos(lambda v: w @ v, 100, 3, block_size=8, checkpoint=tmp_path, fingerprint="one")
    with pytest.raises(InputError, match="belongs to another solve"):
        block_lanczos(lambda v: w @ v, 100, 3, block_size=8, checkpoint=tmp_path, fingerprint="two")


def test_truncated_checkpoint__is_named_damage(tmp_path: Path) -> None:
    w = with_spectrum(0.9 ** np.arange(100.0))
    block_lanczos(lambda v: w @ v, 100, 3, block_size=8, checkpoint=tmp_path)
    path = tmp_path / "pass-0002.npz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DamagedStoreError, match=r"pass-0002.npz cannot be read"):
        block_lanczos(lambda v: w @ v, 100, 3, block_size=8, checkpoint=tmp_path)
