"""Blocks on a Dask cluster: the same bytes, workers that die, schedulers that are not there."""

import os
import signal
import subprocess
import sys
import threading
import time

import naive
import numpy as np
import pytest

import inpca
from inpca import InputError, ResourceError, TiledMatrix, pairwise_distances
from inpca.distance import cluster, request
from inpca.executor import ClusterExecutor, connected, get_executor

distributed = pytest.importorskip("distributed")

TILE = 16
N_SAMPLES, N_CLASSES = 60, 4

# A cluster in a process of its own: it can be killed, and its noise is not ours.
CLUSTER = """
import sys, time
import dask
from distributed import LocalCluster

if __name__ == "__main__":
    dask.config.set({"distributed.scheduler.allowed-failures": 1})
    with LocalCluster(
        n_workers=int(sys.argv[1]), threads_per_worker=1, processes=True, memory_limit="1GB",
        dashboard_address=None, silence_logs=50,
    ) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
"""


class Cluster:
    """A scheduler and its workers, as a user has them: an address."""

    def __init__(self, folder, n_workers):
        script = folder / f"cluster_{n_workers}.py"
        script.write_text(CLUSTER)
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}
        self.process = subprocess.Popen(
            [sys.executable, script, str(n_workers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self.address = self.process.stdout.readline().strip()

    def stop(self):
        self.process.stdin.close()
        self.process.wait(timeout=300)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder that workers import from."""
    return tmp_path_factory.mktemp("cluster")


@pytest.fixture(scope="module")
def two_workers(folder):
    running = Cluster(folder, 2)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def ensemble(folder):
    models = naive.random_models(88, N_SAMPLES, N_CLASSES).astype(np.float32)
    models[7] = naive.truth(np.arange(N_SAMPLES) % 3, N_CLASSES)[0]
    labels = np.arange(N_SAMPLES) % N_CLASSES
    ensemble = inpca.create_ensemble(
        folder / "e", sample_sets={"train": labels}, n_classes=N_CLASSES
    )
    for number, part in enumerate(np.array_split(models, 3)):
        ensemble.add_run(f"run-{number}", {"train": part}, kind="log_probs")
    return ensemble.with_references()


def files(path):
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


@pytest.fixture(scope="module")
def whole(ensemble):
    return pairwise_distances(ensemble, out=ensemble.distances_path("whole"), tile_size=TILE)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """A task for each block of a few tiles, although they take a millisecond."""
    monkeypatch.setattr(request, "_LEAST_TASK_SECONDS", 1e-6)


def test_cluster__gives_the_bytes_of_one_process(two_workers, ensemble, whole, tmp_path):
    out, said = tmp_path / "d.zarr", []
    matrix, info = pairwise_distances(
        ensemble,
        out=out,
        tile_size=TILE,
        executor=two_workers.address,
        progress=lambda *record: said.append(record),
        return_info=True,
    )
    assert len(info.plan.blocks) > 3
    assert files(out) == files(whole.path)
    assert matrix.attrs["floored"] > 0
    assert said[-1][0] == said[-1][1] == 90 * 89 / 2
    matrix.remove_tile((1, 3))
    with distributed.Client(two_workers.address, set_as_default=False) as client:
        _, info = pairwise_distances(ensemble, out=out, executor=client, return_info=True)
        assert client.status == "running", "a client of the caller's stays open"
    assert info.plan.n_tiles == 1
    assert files(out) == files(whole.path)


def test_cluster_executor__hands_out_a_window_and_passes_errors_on(two_workers):
    taken = []

    def tasks():
        for task in range(40):
            taken.append(task)
            yield task

    with connected(two_workers.address) as executor:
        assert executor.n_workers == 2
        assert executor.task_memory(None) == 500_000_000
        assert executor.task_memory(10**8) == 10**8
        results = executor.map(abs, tasks())
        next(results)
        assert len(taken) <= 5
        results.close()
        assert sorted(executor.map(abs, range(20))) == list(range(20))
        with pytest.raises(TypeError) as caught:
            list(executor.map(abs, ["x"]))
        assert caught.value.__notes__[0].startswith("in x, on a worker of tcp://")


def test_workers_that_see_another_file_system__are_told_of(two_workers, ensemble, tmp_path):
    matrix = TiledMatrix.create(tmp_path / "d.zarr", n_models=3, tile_size=2, fingerprint="f")
    place = cluster.place_of(tmp_path / "not-here", matrix, "train")
    task = cluster.BlockTask(place, ((0, 0),), 10**9, "bhattacharyya", "numba")
    with (
        connected(two_workers.address) as executor,
        pytest.raises(InputError, match=r"worker cannot read the ensemble .*not-here"),
    ):
        list(executor.map(cluster.compute_block, [task]))


def test_workers__refuse_another_ensemble_and_another_version(ensemble, whole, tmp_path):
    place = cluster.place_of(ensemble.path, whole, "train")
    labels = np.arange(N_SAMPLES) % N_CLASSES
    other = inpca.create_ensemble(tmp_path / "e", sample_sets={"train": labels}, n_classes=4)
    for number, n_models in enumerate((30, 29, 29)):
        uniform = np.full((n_models, N_SAMPLES, N_CLASSES), 0.25)
        other.add_run(f"run-{number}", {"train": uniform})
    for changes, message in (
        ({"ensemble": str(other.path)}, "sees another ensemble"),
        ({"fingerprint": "other"}, "another matrix"),
        ({"version": "0"}, "install the same"),
    ):
        changed = cluster.Place(**(vars(place) | changes))
        with pytest.raises(InputError, match=message):
            cluster.compute_block(
                cluster.BlockTask(changed, ((0, 0),), 10**9, "bhattacharyya", "numba")
            )


def test_worker__writes_nothing_into_a_matrix_that_was_replaced(ensemble, whole, tmp_path):
    sink = cluster._CarefulSink(
        TiledMatrix.create(tmp_path / "d", n_models=3, tile_size=2, fingerprint="old")
    )
    TiledMatrix.create(tmp_path / "d", n_models=3, tile_size=2, fingerprint="new", overwrite=True)
    with pytest.raises(InputError, match="was replaced"):
        sink.record_floored({})


def test_cluster__needs_an_ensemble_and_an_output(two_workers, ensemble):
    models = np.full((3, 2, 2), 0.5)
    with pytest.raises(InputError, match="`X` must be an Ensemble on a cluster"):
        pairwise_distances(models, out="d.zarr", executor=two_workers.address)
    with pytest.raises(InputError, match="`cluster` needs `out`"):
        pairwise_distances(ensemble, executor=two_workers.address)


def test_get_executor__refuses_a_cluster_where_none_can_be_used():
    with pytest.raises(InputError, match="only distances run on one"):
        get_executor("tcp://127.0.0.1:8786")


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        ("tcp://127.0.0.1:9", ResourceError, r"Nobody answers .*dask scheduler"),
        ("tcp://127.0.0.1:x", InputError, "must be a scheduler's address"),
    ],
)
def test_cluster__that_is_not_there_is_told_before_any_work(address, error, message, monkeypatch):
    monkeypatch.setattr(ClusterExecutor.__init__, "__defaults__", (0.5,))
    with pytest.raises(error, match=message):
        pairwise_distances(np.full((3, 2, 2), 0.5), executor=address)


def test_cluster__without_workers_is_told(folder):
    empty = Cluster(folder, 0)
    try:
        # Connecting has the client's own patience: under load it takes more than a second.
        with (
            distributed.Client(empty.address, set_as_default=False) as client,
            pytest.raises(ResourceError, match="has no workers; start some"),
        ):
            ClusterExecutor(client, patience=1.0)
    finally:
        empty.stop()


# --- workers and schedulers that die ------------------------------------------------------------

FAULTS = """
import os, pathlib, signal, time
from inpca.distance import cluster

def die_once(task):
    \"\"\"Kill this worker after the block was written, the first time that it is.\"\"\"
    tiles = cluster.compute_block(task)
    try:  # one worker alone, though both may be here at once
        open(task.place.matrix + ".killed", "x").close()
    except FileExistsError:
        return tiles
    os.kill(os.getpid(), signal.SIGKILL)

def die(task):
    if (0, 3) in task.tiles:
        os.kill(os.getpid(), signal.SIGKILL)
    return cluster.compute_block(task)

def sleep(task):
    pathlib.Path(task).touch()
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def faults(folder):
    (folder / "inpca_cluster_faults.py").write_text(FAULTS)
    sys.path.insert(0, str(folder))
    import inpca_cluster_faults

    yield inpca_cluster_faults
    sys.path.remove(str(folder))


def test_worker_that_is_killed__is_replaced_and_its_finished_tiles_are_not_redone(
    two_workers, ensemble, whole, tmp_path, faults, monkeypatch
):
    monkeypatch.setattr(cluster, "compute_block", faults.die_once)
    out = tmp_path / "d.zarr"
    pairwise_distances(ensemble, out=out, tile_size=TILE, executor=two_workers.address)
    assert (tmp_path / "d.zarr.killed").exists()
    assert files(out) == files(whole.path)


@pytest.mark.slow
def test_task_that_always_kills_its_worker__stops_the_job_and_is_named(
    two_workers, ensemble, whole, tmp_path, faults, monkeypatch
):
    out = tmp_path / "d.zarr"
    with monkeypatch.context() as patch:
        patch.setattr(cluster, "compute_block", faults.die)
        with pytest.raises(ResourceError, match=r"block of \d+ tiles .* has killed every worker"):
            pairwise_distances(ensemble, out=out, tile_size=TILE, executor=two_workers.address)
    there = TiledMatrix.open(out)
    assert (0, 3) in there.missing()
    assert len(there.missing()) < there.grid.n_tiles
    pairwise_distances(ensemble, out=out, executor=two_workers.address)
    assert files(out) == files(whole.path)


def test_compute_block__leaves_tiles_alone_that_are_there(ensemble, whole, tmp_path):
    before = {path.name: path.stat().st_mtime_ns for path in whole.path.rglob("distance/c.*")}
    tiles = tuple(whole.grid.tiles())
    place = cluster.place_of(ensemble.path, whole, "train")
    task = cluster.BlockTask(place, tiles, 10**9, "bhattacharyya", "numba")
    assert cluster.compute_block(task) == tiles
    after = {path.name: path.stat().st_mtime_ns for path in whole.path.rglob("distance/c.*")}
    assert after == before


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_scheduler_that_goes_away__is_an_error_not_a_hang(folder, tmp_path, faults, sent):
    running = Cluster(folder, 1)

    def end():
        while not (tmp_path / "begun").exists():
            time.sleep(0.05)
        running.process.send_signal(sent)

    killer = threading.Thread(target=end)
    killer.start()
    with (
        connected(running.address) as executor,
        pytest.raises(ResourceError, match="does not answer"),
    ):
        list(executor.map(faults.sleep, [str(tmp_path / "begun")]))
    killer.join()
    running.process.kill()
    running.stop()
