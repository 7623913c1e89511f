"""A solve over tiles on disk that is killed, or that meets a damaged tile in a later pass."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import inpca
from inpca.store.matrix import TiledMatrix

OPTIONS = {"n_components": 8, "solver": "lanczos", "block_size": 16}


@pytest.fixture
def matrix(tmp_path: Path) -> TiledMatrix:
    p = np.random.default_rng(0).dirichlet(np.ones(3), size=(300, 6))
    return inpca.pairwise_distances(p, out=tmp_path / "d.zarr", tile_size=64)


def flip_a_bit(matrix: TiledMatrix) -> None:
    path = matrix.path / "distance" / "c.1.3"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("executor", ["serial", 3])
@pytest.mark.parametrize("pass_number", [1, 3])
def test_tile_damaged_before_a_pass__is_named_in_that_pass(
    matrix: TiledMatrix, executor: str | int, pass_number: int
) -> None:
    seen: list[str] = []

    def damage(done: float, total: float, text: str) -> None:
        if text.startswith(f"pass {pass_number}") and text not in seen:
            flip_a_bit(matrix)
        seen.append(text)

    with pytest.raises(inpca.DamagedStoreError, match=r"c\.1\.3 \(tile \(1, 3\)\).*repair=True"):
        inpca.InPCA(**OPTIONS, executor=executor, progress=damage).fit(matrix)
    assert seen[-1].startswith(f"pass {pass_number}")


def test_tile_deleted_during_a_pass__is_named(matrix: TiledMatrix) -> None:
    def delete(done: float, total: float, text: str) -> None:
        if text.startswith("pass 2"):
            matrix.remove_tile((4, 4))

    with pytest.raises(inpca.DamagedStoreError, match=r"c\.4\.4 \(tile \(4, 4\)\) is missing"):
        inpca.InPCA(**OPTIONS, progress=delete).fit(matrix)


KILLED = """
import os, signal, sys
import inpca
def kill(done, total, text):
    if text.startswith("pass " + sys.argv[3]) and done >= int(sys.argv[3]) - 0.5:
        os.kill(os.getpid(), signal.SIGKILL)
options = {"n_components": 8, "solver": "lanczos", "block_size": 16, "progress": kill}
matrix = inpca.TiledMatrix.open(sys.argv[1])
inpca.InPCA(**options, checkpoint=sys.argv[2]).fit(matrix)
"""


@pytest.mark.parametrize("in_pass", [1, 2, 4])
def test_fit_killed_in_a_pass__goes_on_to_the_same_bytes(
    matrix: TiledMatrix, tmp_path: Path, in_pass: int
) -> None:
    whole = inpca.InPCA(**OPTIONS).fit(matrix)
    folder = tmp_path / "passes"
    command = [sys.executable, "-c", KILLED, str(matrix.path), str(folder), str(in_pass)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    assert len(list(folder.glob("pass-*.npz"))) == in_pass - 1
    seen: list[str] = []
    embedding = inpca.InPCA(
        **OPTIONS, checkpoint=folder, progress=lambda done, total, text: seen.append(text)
    ).fit(matrix)
    assert not any(text.startswith("pass 1") for text in seen[1:]) or in_pass == 1
    assert embedding.n_passes_ == whole.n_passes_
    for name in ("embedding_", "eigenvalues_", "residuals_", "row_means_"):
        assert getattr(embedding, name).tobytes() == getattr(whole, name).tobytes(), name
    assert embedding.frobenius_norm_ == whole.frobenius_norm_


def test_fit_killed_before_it_was_saved__computes_the_row_means_alone(
    matrix: TiledMatrix, tmp_path: Path
) -> None:
    whole = inpca.InPCA(**OPTIONS, checkpoint=tmp_path / "passes").fit(matrix)
    seen: list[str] = []
    again = inpca.InPCA(
        **OPTIONS,
        checkpoint=tmp_path / "passes",
        progress=lambda done, total, text: seen.append(text),
    ).fit(matrix)
    assert seen.count("row means and ‖W‖") == 1 + matrix.grid.n_tiles
    assert again.row_means_.tobytes() == whole.row_means_.tobytes()
    assert again.embedding_.tobytes() == whole.embedding_.tobytes()
