"""Distances as tiles on disk: resumed, repaired, refused; the same bytes whatever happened."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import naive
import numpy as np
import pytest
from tight import least_memory

import inpca
from inpca import DamagedStoreError, InputError, ResourceError, TiledMatrix, pairwise_distances
from inpca.distance.block_numba import NumbaBlock

TILE = 16


@pytest.fixture(scope="module")
def log_p():
    models = naive.random_models(90, 1101, 10).astype(np.float32)
    models[7] = naive.truth(np.arange(1101) % 10, 10)[0]
    models[8] = naive.truth(np.arange(1101) % 7, 10)[0]
    return models


def write(log_p, out, **options):
    options = {"tile_size": TILE, "executor": 2, **options}
    return pairwise_distances(log_p, kind="log_probs", out=out, **options)


def least(log_p, n_workers):
    """So little memory that every tile is a block, with two slabs."""
    return least_memory(log_p.shape, tile_size=TILE, n_workers=n_workers)


def files(path):
    """Every file of a store and its bytes."""
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


@pytest.fixture(scope="module")
def whole(log_p, tmp_path_factory):
    """A matrix computed in one go."""
    return write(log_p, tmp_path_factory.mktemp("whole") / "d.zarr")


@pytest.fixture
def copy(whole, tmp_path):
    """A copy of it that may be damaged."""
    return Path(shutil.copytree(whole.path, tmp_path / "d.zarr"))


def test_stored_distances__are_those_in_memory_as_float32(whole, log_p):
    d = pairwise_distances(log_p, kind="log_probs")
    assert whole.complete
    assert (whole.to_array() == d.astype(np.float32)).all()
    assert whole.attrs["floored"] == naive.floored(log_p[7:9]) > 0
    assert whole.attrs["unit"] == "nats per sample"


@pytest.mark.parametrize(
    "options",
    [{"executor": "serial"}, {"memory": "least"}, {"memory": "least", "executor": 1}],
    ids=str,
)
def test_stored_distances__have_the_same_bytes_for_any_threads_and_memory(
    whole, log_p, tmp_path, options
):
    if "memory" in options:
        options = options | {"memory": least(log_p, n_workers=options.get("executor", 2))}
    again, info = write(log_p, tmp_path / "d.zarr", return_info=True, **options)
    assert files(again.path) == files(whole.path)
    if "memory" in options:
        assert len(info.plan.blocks) > 3


def test_stored_distances__resume_with_the_missing_tiles_alone(whole, log_p, copy):
    matrix = TiledMatrix.open(copy)
    for tile in [(0, 3), (2, 2), (0, 0)]:
        matrix.remove_tile(tile)
    matrix, info = write(log_p, copy, return_info=True, tile_size=None)
    assert info.plan.n_tiles == 3
    assert files(copy) == files(whole.path)
    _, info = write(log_p, copy, return_info=True)
    assert info.plan.n_tiles == 0


@pytest.mark.parametrize("damage", ["truncated", "zeroed", "deleted", "flipped", "emptied"])
def test_stored_distances__repair_a_damaged_tile(whole, log_p, copy, damage):
    file = copy / "distance" / "c.1.4"
    content = file.read_bytes()
    if damage == "deleted":
        file.unlink()
    elif damage == "flipped":
        file.write_bytes(content[:100] + bytes([content[100] ^ 4]) + content[101:])
    else:
        length = {"truncated": len(content) // 2, "emptied": 0, "zeroed": len(content)}[damage]
        file.write_bytes(bytes(length) if damage == "zeroed" else content[:length])
    (found,) = TiledMatrix.open(copy).verify()
    assert found.key == "distance/c.1.4"
    matrix, info = write(log_p, copy, repair=True, return_info=True)
    assert info.plan.n_tiles == 1
    assert info.repaired[0].startswith("distance/c.1.4")
    assert matrix.verify() == []
    assert files(copy) == files(whole.path)


def test_stored_distances__refuse_to_repair_what_is_no_tile(log_p, tmp_path):
    ensemble = make_ensemble(tmp_path / "e", log_p[:40])
    matrix = pairwise_distances(ensemble, out=tmp_path / "d.zarr")
    victim = next(file for file in matrix.path.glob("models/**/c.*") if file.is_file())
    victim.write_bytes(b"")
    with pytest.raises(DamagedStoreError, match="restart=True"):
        pairwise_distances(ensemble, out=tmp_path / "d.zarr", repair=True)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda log_p: {"X": log_p[::-1]}, "predictions of other values"),
        (lambda log_p: {"X": log_p[:-1]}, "90 models instead of 89"),
        (lambda log_p: {"X": log_p.astype(np.float64)}, "dtype"),
        (lambda log_p: {"X": log_p, "tile_size": 32}, "tile_size 16 instead of 32"),
    ],
)
def test_stored_distances__of_other_inputs_are_refused(whole, log_p, copy, change, name):
    before = files(copy)
    arguments = {"tile_size": TILE, **change(log_p)}
    with pytest.raises(InputError, match=f"(?s){name}.*restart=True"):
        pairwise_distances(kind="log_probs", out=copy, **arguments)
    assert files(copy) == before


def test_stored_distances__of_another_kernel_are_refused(log_p, copy, monkeypatch):
    """Its bytes may differ in the last place: one matrix is of one kernel."""
    monkeypatch.setattr(NumbaBlock, "version", NumbaBlock.version + 1)
    with pytest.raises(InputError, match=r"kernel \d+ instead of \d+.*restart=True"):
        write(log_p, copy)


def test_stored_distances__restart_replaces_what_is_there(whole, log_p, copy):
    other = write(log_p[::-1], copy, restart=True)
    assert (other.to_array() == whole.to_array()[::-1, ::-1]).all()


def test_stored_distances__tell_the_tiles_that_are_being_written(log_p, tmp_path):
    said = []
    report = lambda done, total, text: said.append(text)  # noqa: E731
    matrix = write(log_p, tmp_path / "d.zarr", progress=report)
    n = matrix.grid.n_tiles
    assert said[-1].endswith(f"{n:,} of {n:,} tiles of the block written")


def test_stored_distances__without_resume_refuse_an_output_that_exists(log_p, copy):
    with pytest.raises(InputError, match="resume=False"):
        write(log_p, copy, resume=False)


def test_stored_distances__refuse_a_second_engine(log_p, copy):
    with TiledMatrix.open(copy).lock(), pytest.raises(ResourceError, match="another process"):
        write(log_p, copy)


def test_stored_distances__refuse_a_path_that_is_no_matrix(log_p, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for options in ({}, {"restart": True}):
        with pytest.raises(InputError, match="must be a matrix"):
            write(log_p, tmp_path, **options)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_stored_distances__write_nothing_for_bad_input(tmp_path):
    bad = np.full((40, 5, 2), 0.6)
    with pytest.raises(InputError, match="do not sum to 1"):
        pairwise_distances(bad, out=tmp_path / "d.zarr")
    with pytest.raises(ResourceError, match="smallest block"):
        pairwise_distances(bad / 1.2, out=tmp_path / "d.zarr", memory="1kB")
    with pytest.raises(InputError, match="leave out `Y`"):
        pairwise_distances(bad / 1.2, bad / 1.2, out=tmp_path / "d.zarr")
    assert list(tmp_path.iterdir()) == []


def test_stored_distances__report_pairs_rate_and_time_left(log_p, tmp_path):
    said = []
    write(log_p, tmp_path / "d.zarr", progress=lambda *record: said.append(record))
    done = [record[0] for record in said]
    assert done == sorted(done)
    assert said[-1][0] == pytest.approx(said[-1][1])
    assert said[-1][1] == 90 * 89 / 2
    assert "pairs/s" in said[-1][2]
    assert any(text.endswith(" left") for _, _, text in said)


# --- ensembles ----------------------------------------------------------------------------------


def make_ensemble(path, log_p, n_runs=2):
    n_classes = log_p.shape[2]
    labels = np.arange(log_p.shape[1]) % n_classes
    ensemble = inpca.create_ensemble(path, sample_sets={"train": labels}, n_classes=n_classes)
    for run, part in enumerate(np.array_split(log_p, n_runs)):
        ensemble.add_run(f"run-{run}", {"train": part}, kind="log_probs")
    return inpca.open_ensemble(path)


def test_distances_of_an_ensemble__are_those_of_its_predictions(log_p, tmp_path):
    ensemble = make_ensemble(tmp_path / "e", log_p)
    d = pairwise_distances(log_p, kind="log_probs")
    np.testing.assert_allclose(pairwise_distances(ensemble), d, rtol=1e-7, atol=3e-7)
    matrix = pairwise_distances(ensemble, out=ensemble.distances_path("train"), tile_size=TILE)
    assert list(matrix.models.index) == list(ensemble.models.index)
    assert matrix.attrs["sample_set"] == "train"
    np.testing.assert_allclose(matrix.to_array(), d, rtol=2e-7, atol=3e-7)


def test_distances_of_an_ensemble__to_truth_are_half_the_loss(log_p, tmp_path):
    ensemble = make_ensemble(tmp_path / "e", log_p[9:30]).with_references()
    d = pairwise_distances(ensemble)
    loss = ensemble.models["train_loss"].to_numpy()[2:]
    np.testing.assert_allclose(d[1, 2:], loss / 2, rtol=0, atol=1e-6)
    assert d[0, 1] == pytest.approx(0.5 * np.log(10), abs=1e-6)


def test_distances_of_an_ensemble__refuse_an_unknown_sample_set(log_p, tmp_path):
    ensemble = make_ensemble(tmp_path / "e", log_p[:4])
    with pytest.raises(InputError, match="sample_set"):
        pairwise_distances(ensemble, sample_set="validation", out=tmp_path / "d.zarr")
    assert not (tmp_path / "d.zarr").exists()


# --- killed jobs --------------------------------------------------------------------------------

JOB = """
import sys, time
import numpy as np
import inpca
log_p = np.load(sys.argv[1])
def report(done, total, text):
    print(done, flush=True)
    time.sleep(0.01)
inpca.pairwise_distances(log_p, kind="log_probs", out=sys.argv[2], tile_size=16,
                         memory=sys.argv[3], executor=1, progress=report)
"""


def test_stored_distances__killed_ten_times_resume_to_the_same_bytes(whole, log_p, tmp_path):
    """SIGKILL at random moments after the first block has begun; each call goes on."""
    np.save(tmp_path / "log_p.npy", log_p)
    out = tmp_path / "d.zarr"
    command = [sys.executable, "-c", JOB, tmp_path / "log_p.npy", out, str(least(log_p, 1))]
    rng = np.random.default_rng(int(os.environ.get("INPCA_TEST_SEED", "7")))
    left = []
    for _ in range(10):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as job:
            for _ in range(rng.integers(1, 7)):  # slabs: there are two to a block
                job.stdout.readline()
            time.sleep(rng.uniform(0, 0.02))
            job.send_signal(signal.SIGKILL)
        left.append(len(TiledMatrix.open(out).missing()))
    assert left == sorted(left, reverse=True)
    assert left[0] > left[-1]
    final, info = write(log_p, out, memory=least(log_p, 2), return_info=True)
    assert info.plan.n_tiles == left[-1]
    assert final.verify() == []
    assert files(out) == files(whole.path)
