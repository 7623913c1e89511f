"""Every writer, killed before each of its operations on disk, refused each of them, or doubled.

Run as a program, in a process of its own: ``kill_points.py MODE WRITER FOLDER EVERY`` forks
children that make one call, at every EVERY-th point; it prints, as JSON, what was seen at each of
them. What must hold there is asserted here.
"""

import builtins
import errno
import io
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import inpca
from inpca.errors import InpcaError
from inpca.store import catalogue
from inpca.store import trajectories as stored
from inpca.store.embedding import read_embedding, write_embedding
from inpca.store.group import read_root, root_bytes
from inpca.summary import check_ensemble, describe_ensemble
from inpca.trajectories import load_trajectory_distances, trajectory_distances

N, C = 6, 3
LABELS = np.arange(N) % C
NAMES = ("rename", "replace", "unlink", "rmdir", "mkdir", "link", "fsync")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
ABSENT = "absent"


# -- the operations -------------------------------------------------------------------------------


class Written:
    """A file whose writes are operations; one that dies leaves half of what it was to write."""

    def __init__(self, file: Any, step: Callable[[Callable[[], Any]], None]) -> None:
        self._file, self._step = file, step

    def write(self, data: bytes) -> int:
        def half() -> None:
            self._file.write(data[: len(data) // 2])
            self._file.flush()

        self._step(half)
        return self._file.write(data)

    def __enter__(self) -> "Written":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def hook(moment: int, act: Callable[[int], None]) -> list[int]:
    """Call `act` before operation `moment` and each one after it; count them in the first item."""
    count = [0]

    def step(half: Callable[[], Any] = lambda: None) -> None:
        count[0] += 1
        if count[0] >= moment:
            if count[0] == moment:
                half()
            act(count[0])

    def counted(module: Any, name: str) -> None:
        real = getattr(module, name)

        def call(*arguments: Any, **options: Any) -> Any:
            step()
            if name != "fsync":  # waiting for the disk would tell of lost power alone
                return real(*arguments, **options)
            return None

        setattr(module, name, call)

    for name in NAMES:
        counted(os, name)
    real_open = os.open

    def os_open(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        if flags & WRITES:
            step()
        return real_open(path, flags, *rest, **options)

    os.open = os_open  # type: ignore[assignment]
    for module in (builtins, io):
        module.open = _opening(module.open, step)  # type: ignore[attr-defined]
    return count


def _opening(real: Any, step: Callable[..., None]) -> Any:
    def opening(file: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if set("wax+").isdisjoint(mode):
            return real(file, mode, *rest, **options)
        if not isinstance(file, int):
            step()
        return Written(real(file, mode, *rest, **options), step)

    return opening


def kill(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def forked(action: Callable[[], None], prepare: Callable[[], Any] = lambda: None) -> str:
    """Run `action` in a child; "done", "killed", "refused: …" for a named error, or "raw: …"."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receive)
        said = _outcome(action, prepare)
        os.write(send, said.encode()[:4000])
        os._exit(0)
    os.close(send)
    return _heard(child, receive)


def _outcome(action: Callable[[], None], prepare: Callable[[], Any]) -> str:
    try:
        prepare()
        action()
    except InpcaError as error:
        return f"refused: {error}"
    except OSError as error:
        return f"raw: {error!r}"
    except BaseException as error:  # to be told in the parent
        return f"WRONG: {error!r}"
    return "done"


def _heard(child: int, receive: int) -> str:
    status = os.waitpid(child, 0)[1]
    with os.fdopen(receive, "rb") as pipe:
        said = pipe.read().decode()
    return said or ("killed" if os.WIFSIGNALED(status) else f"WRONG: exit {status}")


# -- the writers ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Writer:
    """A call that writes, what is there before it, and how what is there is seen.

    Attributes
    ----------
    make : what lies in the folder before
    call : the call
    look : what a reader sees, as something to compare; a named error counts as `ABSENT`
    steps : states that may be seen between "before" and "after"; for a call with several commits
    """

    make: Callable[[Path], Any]
    call: Callable[[Path], Any]
    look: Callable[[Path], Any]
    steps: tuple[str, ...] = ()


def probs(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(C), (count, N))


def empty(path: Path) -> Any:
    return inpca.create_ensemble(path / "e", sample_sets={"train": LABELS}, n_classes=C)


def ensemble(path: Path) -> Any:
    made = empty(path)
    for seed, run in enumerate(("a", "b")):
        made.add_run(run, {"train": probs(3, seed)}, config={"seed": seed})
    return made


def opened(path: Path) -> Any:
    return inpca.open_ensemble(path / "e")


def once(call: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """A call that is refused where it has been made: that is a success the second time."""

    def calling(path: Path) -> None:
        try:
            call(path)
        except inpca.InputError as error:
            if "exists already" not in str(error):
                raise

    return calling


def run_seen(name: str) -> Callable[[Path], Any]:
    def look(path: Path) -> Any:
        run = opened(path).run(name)
        values = [run.log_probs("train", k).tolist() for k in range(run.n_checkpoints)]
        return [run.step.tolist(), values, run.config]

    return look


def append(path: Path) -> None:
    """The third checkpoint, or none where it is there: what a collector that goes on does."""
    with opened(path).start_run("a", resume=True) as writer:
        if writer.n_checkpoints < 4:
            writer.append({"train": probs(1, 9)[0]}, "probs", step=3, epoch=3.0)


def record_again(path: Path) -> None:
    with opened(path).start_run("a", {"seed": 5}, restart=True) as writer:
        writer.append({"train": probs(1, 5)[0]}, "probs", step=0, epoch=0.0)


def embedding(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {"coordinates": rng.normal(size=(6, 2)), "eigenvalues": np.full(2, float(seed))}


def save(seed: int, overwrite: bool = True) -> Callable[[Path], Any]:
    def call(path: Path) -> None:
        models = opened(path).models
        place = opened(path).embeddings_path("train")
        write_embedding(place, embedding(seed), models, {"seed": seed}, overwrite=overwrite)

    return call


def embedded(path: Path) -> None:
    ensemble(path)
    save(1)(path)


def embedding_seen(path: Path) -> Any:
    arrays, models, attrs = read_embedding(opened(path).embeddings_path("train"))
    seed = attrs["seed"]
    for name, values in embedding(seed).items():
        assert (arrays[name] == values).all(), "a mixture of two embeddings"
    assert models is not None
    return seed


def fitted(path: Path) -> None:
    """Distances on two sample sets' worth of models, and an embedding of the first."""
    made = ensemble(path)
    for name in ("train", "other"):
        inpca.pairwise_distances(made, out=made.distances_path(name), **OPTIONS)
    matrix = inpca.TiledMatrix.open(made.distances_path("train"))
    inpca.InPCA(2, metric="precomputed").fit(matrix).save(made.embeddings_path("train"))


def join(path: Path) -> None:
    loaded = inpca.load_embedding(opened(path).embeddings_path("train"))
    matrix = inpca.TiledMatrix.open(opened(path).distances_path("other"))
    loaded.join("other", matrix)
    loaded.save(opened(path).embeddings_path("train"), overwrite=True)


def joined_seen(path: Path) -> Any:
    return sorted(inpca.load_embedding(opened(path).embeddings_path("train")).joint_)


def four_point(path: Path) -> None:
    found = inpca.four_point(opened(path), at=(0.3, 0.7), sigma=0.3)
    found.embedding.save(opened(path).embeddings_path("train"), overwrite=True, with_training=True)


def four_points_seen(path: Path) -> Any:
    arrays, _, attrs = read_embedding(opened(path).embeddings_path("train"))
    return "training_log_probs" in arrays, attrs.get("seed")


OPTIONS: dict[str, Any] = {"tile_size": 2, "executor": "serial"}


def matrix_place(path: Path) -> Path:
    return opened(path).distances_path("train")


def create_matrix(fingerprint: str, overwrite: bool) -> Callable[[Path], Any]:
    def call(path: Path) -> None:
        inpca.TiledMatrix.create(
            matrix_place(path),
            n_models=4,
            tile_size=2,
            fingerprint=fingerprint,
            overwrite=overwrite,
        )

    return call


def matrix_made(path: Path) -> None:
    ensemble(path)
    create_matrix("old", False)(path)
    write_tiles(1)(path)


def write_tiles(value: int) -> Callable[[Path], Any]:
    def call(path: Path) -> None:
        matrix = inpca.TiledMatrix.open(matrix_place(path))
        with matrix.lock():
            for tile in matrix.grid.tiles():
                matrix.write_tile(tile, np.full(matrix.grid.shape(tile), value, np.float32))
            matrix.update_attrs({"finished": True})

    return call


def matrix_seen(path: Path) -> Any:
    matrix = inpca.TiledMatrix.open(matrix_place(path))
    absent = set(matrix.missing())
    tiles = [matrix.read_tile(t).tolist() for t in matrix.grid.tiles() if t not in absent]
    return [matrix.fingerprint, tiles, matrix.attrs.get("finished")]


def distances_seen(path: Path) -> Any:
    """Which models the matrix is of; each of its tiles must be whole."""
    matrix = inpca.TiledMatrix.open(matrix_place(path))
    absent = set(matrix.missing())
    for tile in set(matrix.grid.tiles()) - absent:
        matrix.read_tile(tile)
    return [len(matrix), len(absent) == 0, bool(matrix.attrs["finished"])]


def measured(path: Path) -> None:
    made = ensemble(path)
    view = made.select("run == 'a'")
    inpca.pairwise_distances(view, out=made.distances_path("train"), **OPTIONS)


def measure(**more: Any) -> Callable[[Path], Any]:
    def call(path: Path) -> None:
        inpca.pairwise_distances(opened(path), out=matrix_place(path), **OPTIONS, **more)

    return call


def trajectories_place(path: Path) -> Path:
    return stored.trajectories_path(path / "e", "train")


def travel(s: int, **more: Any) -> Callable[[Path], Any]:
    def call(path: Path) -> None:
        out = trajectories_place(path)
        trajectory_distances(opened(path), s=s, out=out, executor=1, **more)

    return call


def travelled(path: Path) -> None:
    ensemble(path)
    travel(2)(path)


def half_travelled(path: Path) -> None:
    """As a call leaves them that was killed before its second matrix."""
    travelled(path)
    place = trajectories_place(path)
    shutil.rmtree(stored.open_trajectories(place).matrix_path(1))
    root = read_root(place)
    begun = {name: one for name, one in root.attributes.items() if name != stored.FINISHED}
    (place / "zarr.json").write_bytes(root_bytes(root.arrays, begun, root.index))


def trajectories_seen(path: Path) -> Any:
    store = stored.open_trajectories(trajectories_place(path))
    try:
        return [len(store.s), load_trajectory_distances(store.path).integrated.tolist()]
    except inpca.InputError as error:
        if "is not finished" not in str(error):
            raise
        return [len(store.s), None]


def delete_trajectories(path: Path) -> None:
    try:
        stored.delete_trajectories(trajectories_place(path))
    except inpca.InputError as error:
        if "is none" not in str(error):  # they are deleted
            raise


def delete_run(path: Path) -> None:
    made = opened(path)
    if "a" in made.runs:
        made.delete_run("a")


def list_models(path: Path) -> None:
    catalogue.read_entries(path / "e")


def unlisted(path: Path) -> None:
    ensemble(path)
    (path / "e" / "catalogue").unlink(missing_ok=True)


def catalogue_seen(path: Path) -> Any:
    """What the cache lists; listing the models would save it."""
    return catalogue.listed_runs(path / "e")


def models_seen(path: Path) -> Any:
    return list(opened(path).models.index)


def manifest_seen(path: Path) -> Any:
    made = opened(path)
    return {name: samples.labels.tolist() for name, samples in made.sample_sets.items()}


def other_creator(path: Path) -> None:
    """A folder that a creator of an ensemble with another sample set was killed in."""
    inpca.create_ensemble(path / "e", sample_sets={"other": LABELS}, n_classes=C)
    (path / "e" / "ensemble.json").unlink()
    (path / "e" / "samples" / "other.zarr" / "zarr.json").unlink()


WRITERS = {
    "create_ensemble": Writer(lambda _: None, once(empty), manifest_seen),
    "create_ensemble-after": Writer(other_creator, once(empty), manifest_seen),
    "add_run": Writer(
        ensemble, once(lambda path: opened(path).add_run("c", {"train": probs(2)})), run_seen("c")
    ),
    "append": Writer(ensemble, append, run_seen("a")),
    "restart": Writer(ensemble, record_again, run_seen("a"), (ABSENT,)),
    "delete_run": Writer(ensemble, delete_run, run_seen("a")),
    "catalogue": Writer(unlisted, list_models, catalogue_seen),
    "save": Writer(ensemble, once(save(1, overwrite=False)), embedding_seen),
    "save-overwrite": Writer(embedded, save(2), embedding_seen),
    "join": Writer(fitted, join, joined_seen),
    "four_point": Writer(embedded, four_point, four_points_seen),
    "matrix-create": Writer(ensemble, once(create_matrix("new", False)), matrix_seen),
    "matrix-overwrite": Writer(matrix_made, create_matrix("new", True), matrix_seen),
    "matrix-write": Writer(matrix_made, write_tiles(2), matrix_seen, ("*",)),
    "distances": Writer(ensemble, measure(), distances_seen, ("*",)),
    "distances-extend": Writer(measured, measure(extend=True), distances_seen, ("*",)),
    "distances-restart": Writer(measured, measure(restart=True), distances_seen, ("*",)),
    "trajectories": Writer(ensemble, travel(2), trajectories_seen, ("*",)),
    "trajectories-resume": Writer(half_travelled, travel(2), trajectories_seen, ("*",)),
    "trajectories-restart": Writer(travelled, travel(3, restart=True), trajectories_seen, ("*",)),
    "delete_trajectories": Writer(travelled, delete_trajectories, trajectories_seen),
}
# Two calls for one path, and what may come of them beside what one alone makes.
PAIRS = {
    "save-save": (ensemble, once(save(1, False)), once(save(2, False)), embedding_seen),
    "overwrite-overwrite": (embedded, save(2), save(3), embedding_seen),
    "save-overwrite": (embedded, once(save(2, False)), save(3), embedding_seen),
    "matrix-matrix": (
        ensemble,
        once(create_matrix("one", False)),
        once(create_matrix("two", False)),
        matrix_seen,
    ),
    "matrix-overwrite": (
        matrix_made,
        create_matrix("one", True),
        create_matrix("two", True),
        matrix_seen,
    ),
    "matrix-write": (matrix_made, create_matrix("one", True), write_tiles(2), matrix_seen),
    "distances": (measured, measure(extend=True), measure(restart=True), distances_seen),
    "trajectories": (
        half_travelled,
        travel(2),
        travel(3, restart=True),
        trajectories_seen,
    ),
    "delete_trajectories": (travelled, delete_trajectories, travel(2), trajectories_seen),
    "append": (ensemble, append, record_again, run_seen("a")),
    "add_run": (
        ensemble,
        once(lambda path: opened(path).add_run("c", {"train": probs(2, 1)})),
        once(lambda path: opened(path).add_run("c", {"train": probs(2, 2)})),
        run_seen("c"),
    ),
    "catalogue": (unlisted, list_models, list_models, models_seen),
    "create_ensemble": (lambda _: None, once(empty), once(empty), manifest_seen),
}


# -- what must hold -------------------------------------------------------------------------------


def seen(look: Callable[[Path], Any], path: Path) -> str:
    try:
        return json.dumps(look(path))
    except InpcaError:
        return ABSENT


@contextmanager
def fresh(base: Path, path: Path) -> Iterator[Path]:
    """A copy of what is there before the call."""
    shutil.copytree(base, path)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def check(path: Path) -> None:
    """`check` and `info` name what they must and raise nothing."""
    if not (path / "e" / "ensemble.json").exists():
        return
    for damage in check_ensemble(opened(path)):
        # A tile of a finished matrix that is written again is missing until it is there.
        again = damage.key.startswith("distances/train.zarr/distance") and "is missing"
        assert (again or "is being replaced") in damage.reason, damage
    describe_ensemble(opened(path))


def check_repeated(writer: Writer, path: Path, after: str) -> None:
    """The same call again succeeds, leaves what it always does, and nothing beside."""
    said = forked(lambda: writer.call(path))
    assert said == "done", said
    assert seen(writer.look, path) == after
    opened(path).tidy()
    left = [entry.name for entry in path.rglob("*") if entry.name.endswith((".partial", ".next"))]
    assert left == [], left
    assert check_ensemble(opened(path)) == []


@dataclass
class Bench:
    """A writer, the folder before its call, and what is seen before and after it."""

    writer: Writer
    folder: Path
    base: Path
    before: str
    after: str

    @classmethod
    def of(cls, writer: Writer, folder: Path) -> "Bench":
        base = folder / "base"
        base.mkdir()
        writer.make(base)
        with fresh(base, folder / "after") as path:
            writer.call(path)
            after = seen(writer.look, path)
        return cls(writer, folder, base, seen(writer.look, base), after)

    def named(self, state: str, path: Path) -> str:
        """The name of a state; a store half replaced is one only where one was replaced."""
        if state == self.after:
            return "after"
        if state == self.before:
            return "before"
        if state == ABSENT and any(entry.name.endswith(".next") for entry in path.rglob("*")):
            return "between"
        assert state in self.writer.steps or "*" in self.writer.steps, state
        return ABSENT if state == ABSENT else "partly"


def kill_everywhere(writer: Writer, folder: Path, every: int = 1) -> list[str]:
    """Kill the call before each operation; nothing committed is lost, and the call can be made."""
    bench, states = Bench.of(writer, folder), []
    said = "killed"
    while said == "killed":
        moment = len(states) * every + 1
        with fresh(bench.base, folder / "killed") as path:
            said = forked(partial(writer.call, path), partial(hook, moment, kill))
            assert said in ("killed", "done"), said
            states.append(bench.named(seen(writer.look, path), path))
            check(path)
            check_repeated(writer, path, bench.after)
    return states


def fail_everywhere(
    writer: Writer, folder: Path, code: int, lasting: bool, every: int = 1
) -> list[str]:
    """Refuse each operation; an exception means "not done", none means "done"."""
    from inpca import persistence

    persistence._PAUSES = (0.0, 0.0, 0.0)
    bench, states, passed = Bench.of(writer, folder), [], False
    while not passed:
        moment = len(states) * every + 1
        with fresh(bench.base, folder / "failed") as path:
            mark = folder / "passed"

            def fail(number: int, moment: int = moment, mark: Path = mark) -> None:
                if lasting or number == moment:
                    mark_failed(mark)
                    raise OSError(code, os.strerror(code))

            mark.unlink(missing_ok=True)
            said = forked(partial(writer.call, path), partial(hook, moment, fail))
            passed = not mark.exists()
            assert not said.startswith("WRONG"), said
            state = bench.named(seen(writer.look, path), path)
            if said == "done":
                assert state == "after", (moment, state)
            elif "*" not in writer.steps and ABSENT not in writer.steps:
                # Where the undo is refused as well, the replacement stays, for the next writer.
                stays = lasting and any(one.suffix == ".next" for one in path.rglob("*"))
                assert state == "before" or stays, (moment, state, said)
            states.append(state)
            check(path)
            check_repeated(writer, path, bench.after)
    return states


def mark_failed(mark: Path) -> None:
    """Leave a mark by an operation that is not counted."""
    if not os.path.lexists(mark):
        os.symlink("failed", mark)


def two_at_once(name: str, folder: Path, rounds: int = 8) -> list[str]:
    """Both calls together: each is done or refused by name, and what is there is of one of them."""
    make, one, other, look = PAIRS[name]
    base = folder / "base"
    base.mkdir()
    make(base)
    wholes = {seen(look, base)}
    for calls in ((one,), (other,), (one, other), (other, one)):
        with fresh(base, folder / "alone") as path:
            for call in calls:
                forked(partial(call, path))
            wholes.add(seen(look, path))
    outcomes = []
    for _ in range(rounds):
        with fresh(base, folder / "both") as path:
            said = _together(lambda: one(path), lambda: other(path))
            assert all(word == "done" or word.startswith("refused: ") for word in said), said
            assert "done" in said, said
            assert seen(look, path) in wholes
            assert check_ensemble(opened(path)) == []
            outcomes.append("both" if said == ["done", "done"] else "one")
    return outcomes


def _together(*actions: Callable[[], None]) -> list[str]:
    go, ends = os.pipe(), []
    for action in actions:
        receive, send = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(go[1])
            os.read(go[0], 1)  # returns when the parent closes its end
            said = _outcome(action, lambda: hook(1, lambda _: os.sched_yield()))
            os.write(send, said.encode()[:4000])
            os._exit(0)
        os.close(send)
        ends.append((child, receive))
    os.close(go[0])
    os.close(go[1])
    return [_heard(child, receive) for child, receive in ends]


def read_beside(folder: Path, rounds: int = 40) -> list[str]:
    """Read an embedding while it is replaced again and again: one of them, never a mixture."""
    embedded(folder)

    def replace() -> None:
        for number in range(rounds):
            save(2 + number % 2)(folder)

    child = os.fork()
    if child == 0:
        hook(1, lambda _: None)  # no waiting for the disk
        os._exit(0 if _outcome(replace, lambda: None) == "done" else 1)
    found: list[str] = []
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        try:
            found.append(str(embedding_seen(folder)))
        except inpca.InputError as error:
            if "is being replaced" not in str(error):
                raise
    assert ended[1] == 0
    return found


def main(mode: str, name: str, folder: Path, every: int) -> None:
    catalogue._SETTLED_NS = -(10**12)  # saved at once, not when the runs are two seconds old
    os.fsync = lambda descriptor: None  # type: ignore[assignment]
    if mode == "kill":
        states = kill_everywhere(WRITERS[name], folder, every)
    elif mode == "two":
        states = two_at_once(name, folder)
    elif mode == "read":
        states = read_beside(folder)
    else:
        code, lasting = {"EIO": (errno.EIO, False), "ENOSPC": (errno.ENOSPC, True)}[mode]
        states = fail_everywhere(WRITERS[name], folder, code, lasting, every)
    print(json.dumps(states))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
