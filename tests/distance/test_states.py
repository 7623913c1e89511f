"""An ensemble, its distances and its embedding through any sequence of events.

A model in memory says what has been recorded. After every step what can be read equals it, or is a
named error; processes are killed before a random operation on the disk.
"""

import os
import shutil
import signal
import tempfile
import warnings
from pathlib import Path

import naive
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

import inpca
from inpca import DamagedStoreError, InpcaError, InputError, TiledMatrix, pairwise_distances

TILE = 4
N_SAMPLES, N_CLASSES = 9, 3
OPERATIONS = ("replace", "rename", "link", "unlink", "mkdir", "rmdir", "fsync")

moments = st.integers(1, 120)  # before which operation a process is killed; some end before
runs = st.sampled_from(["a", "b", "c"])
seeds = st.integers(0, 2**32 - 1)


def in_a_process_killed_at(moment, action):
    """Call `action` in a child that is killed before its operation number `moment`, if it has."""
    with warnings.catch_warnings():
        # Python 3.12 warns of forks beside threads, which xdist and BLAS have: none holds a lock.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        count = [0]

        def counted(real):
            def call(*arguments, **options):
                count[0] += 1
                if count[0] == moment:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*arguments, **options)

            return call

        for name in OPERATIONS:
            setattr(os, name, counted(getattr(os, name)))
        try:
            action()
        finally:
            os._exit(0)
    os.waitpid(child, 0)


class Events(RuleBasedStateMachine):
    """What may happen to a small ensemble."""

    @initialize()
    def begin(self):
        self.folder = Path(tempfile.mkdtemp())
        labels = np.arange(N_SAMPLES) % N_CLASSES
        self.ensemble = inpca.create_ensemble(
            self.folder / "e", sample_sets={"train": labels}, n_classes=N_CLASSES
        )
        self.out = self.ensemble.distances_path("train")
        self.recorded = {}  # run → list of predictions
        self.flipped = set()  # tiles with a changed byte that has not been repaired
        self.complete = False  # every tile has been computed, none was removed since

    def teardown(self):
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    # -- recording --------------------------------------------------------------------------------

    @rule(run=runs, n_checkpoints=st.integers(1, 4), seed=seeds)
    def add_run(self, run, n_checkpoints, seed):
        models = self._models(n_checkpoints, seed)
        if run in self.recorded:
            with pytest.raises(InputError, match="exists"):
                self.ensemble.add_run(run, {"train": models}, kind="log_probs")
            return
        self.ensemble.add_run(run, {"train": models}, kind="log_probs")
        self.recorded[run] = list(models)

    @rule(run=runs, moment=moments, seed=seeds)
    def record_one_more_and_be_killed(self, run, moment, seed):
        (model,) = self._models(1, seed)
        before = self.recorded.get(run, [])

        def record():
            with self.ensemble.start_run(run, resume=True) as writer:
                writer.append({"train": model}, "log_probs", step=len(before), epoch=0)

        in_a_process_killed_at(moment, record)
        if run not in self.ensemble.runs:
            assert not before
            return
        n_checkpoints = self.ensemble.run(run).n_checkpoints
        assert n_checkpoints in (len(before), len(before) + 1)
        self.recorded[run] = [*before, model][:n_checkpoints]

    def _models(self, n_models, seed):
        return naive.random_models(n_models, N_SAMPLES, N_CLASSES, seed=seed).astype(np.float32)

    # -- distances --------------------------------------------------------------------------------

    @precondition(lambda self: self._n_models >= 2)
    @rule(part=st.sampled_from([None, None, "1/3", "2/3", "3/3"]))
    def compute(self, part):
        self._compute(part=part)
        self.complete = TiledMatrix.open(self.out).complete
        assert self.complete or part
        if part is None:
            left = {path.name for path in self.out.parent.iterdir()}
            assert left == {"train.zarr", "train.zarr.lock"}
            assert not list(self.out.rglob("*.partial"))

    @precondition(lambda self: self._n_models >= 2)
    @rule(moment=moments, part=st.sampled_from([None, "2/3"]))
    def compute_and_be_killed(self, moment, part):
        self.complete = False
        in_a_process_killed_at(moment, lambda: self._compute(part=part))

    @precondition(lambda self: self._there)
    @rule()
    def repair(self):
        self._compute(repair=True)
        self.flipped.clear()
        self.complete = True
        assert TiledMatrix.open(self.out).verify() == []

    @precondition(lambda self: self._there)
    @rule()
    def restart(self):
        pairwise_distances(self.ensemble, out=self.out, tile_size=TILE, restart=True)
        self.flipped.clear()
        self.complete = True

    @precondition(lambda self: self._there)
    @rule(data=st.data(), how=st.sampled_from(["flip", "truncate", "delete"]))
    def corrupt(self, data, how):
        matrix = TiledMatrix.open(self.out)
        absent = set(matrix.missing())
        tiles = [tile for tile in matrix.grid.tiles() if tile not in absent]
        if not tiles:
            return
        i, j = data.draw(st.sampled_from(tiles))
        file = self.out / "distance" / f"c.{i}.{j}"
        content = file.read_bytes()
        if how == "flip":
            file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
            self.flipped ^= {(i, j)}  # twice is whole again
        elif how == "truncate":
            file.write_bytes(content[:-1])
        else:
            file.unlink()
        self.complete &= how == "flip"

    def _compute(self, **options):
        pairwise_distances(
            self.ensemble, out=self.out, tile_size=TILE, executor="serial", extend=True, **options
        )

    # -- embedding --------------------------------------------------------------------------------

    @precondition(lambda self: self._there)
    @rule()
    def embed(self):
        matrix = TiledMatrix.open(self.out)
        fit = inpca.InPCA(n_components=1, metric="precomputed").fit
        if self.complete and not self._damaged(matrix) and len(matrix) > 2:
            expected = inpca.InPCA(n_components=1, metric="precomputed").fit(self._oracle(matrix))
            np.testing.assert_allclose(fit(matrix).eigenvalues_, expected.eigenvalues_, rtol=1e-6)
            return
        said = None
        try:
            fit(matrix)
        except InpcaError as error:
            said = str(error)
        assert matrix.complete if said is None else str(self.out) in said or "X" in said, said

    # -- what must hold ---------------------------------------------------------------------------

    @property
    def _n_models(self):
        return sum(map(len, self.recorded.values()))

    @property
    def _there(self):
        return self.out.exists()

    def _damaged(self, matrix):
        return {key for key in self.flipped if key[1] < matrix.grid.n_bands}

    def _oracle(self, matrix):
        models = []
        for key in matrix.models.index:
            run, _, checkpoint = key.rpartition("/")
            models.append(self.recorded[run][int(checkpoint)])
        return pairwise_distances(np.array(models), kind="log_probs").astype(np.float32)

    @invariant()
    def what_is_recorded_can_be_read(self):
        if not hasattr(self, "ensemble"):
            return
        expected = [(run, n) for run in sorted(self.recorded) for n in range(self._length(run))]
        keys = [f"{run}/{n}" for run, n in expected]
        assert list(self.ensemble.models.index) == keys
        if keys:
            read = self.ensemble.predictions().read(slice(None), slice(None))
            models = np.array([self.recorded[run][n] for run, n in expected])
            np.testing.assert_allclose(read, models, rtol=1e-5, atol=1e-5)

    def _length(self, run):
        return len(self.recorded[run])

    @invariant()
    def every_distance_is_right_or_absent_or_a_named_error(self):
        if not hasattr(self, "out") or not self._there:
            return
        matrix = TiledMatrix.open(self.out)
        assert len(set(matrix.models.index)) == len(matrix) <= self._n_models
        oracle, absent = self._oracle(matrix), set(matrix.missing())
        for i, j in matrix.grid.tiles():
            if (i, j) in absent:
                continue
            if (i, j) in self.flipped and not self._is_whole(matrix, (i, j)):
                with pytest.raises(DamagedStoreError, match=rf"c\.{i}\.{j}"):
                    matrix.read_tile((i, j))
                continue
            self.flipped.discard((i, j))  # it was computed again, by a band that grew
            expected = oracle[matrix.grid.band(i), matrix.grid.band(j)]
            np.testing.assert_array_equal(matrix.read_tile((i, j)), expected)

    def _is_whole(self, matrix, tile):
        keys = {f"distance/c.{i}.{j}" for i, j in [tile]}
        return keys.isdisjoint(damage.key for damage in matrix.verify())


@pytest.fixture(scope="module", autouse=True)
def no_waiting_for_the_disk():
    """Only losing power could tell."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.mark.slow
def test_events__in_any_order_leave_what_is_right_or_a_named_error():
    machine = settings(
        max_examples=40,
        stateful_step_count=20,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(Events, settings=machine)
