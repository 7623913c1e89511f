"""Whatever goes wrong: a named error or the right bytes, and never less than was finished."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import naive
import numpy as np
import pytest

import inpca
from inpca import InputError, ResourceError, TiledMatrix, pairwise_distances, persistence
from inpca.distance import planner

TILE = 16
N_SAMPLES, N_CLASSES = 40, 4


def files(path):
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


@pytest.fixture(scope="module", autouse=True)
def no_waiting_for_the_disk():
    """Only losing power could tell; what kills runs in processes of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="module")
def log_p():
    models = naive.random_models(60, N_SAMPLES, N_CLASSES).astype(np.float32)
    models[7] = naive.truth(np.arange(N_SAMPLES) % 3, N_CLASSES)[0]
    models[8] = naive.truth(np.arange(N_SAMPLES) % 2, N_CLASSES)[0]
    return models


@pytest.fixture(scope="module")
def ensemble(log_p, tmp_path_factory):
    labels = np.arange(N_SAMPLES) % N_CLASSES
    path = tmp_path_factory.mktemp("ensemble") / "e"
    ensemble = inpca.create_ensemble(path, sample_sets={"train": labels}, n_classes=N_CLASSES)
    for number, part in enumerate(np.array_split(log_p, 2)):
        ensemble.add_run(f"run-{number}", {"train": part}, kind="log_probs")
    return ensemble


def write(models, out, **options):
    options = {"tile_size": TILE, "executor": 1, **options}
    return pairwise_distances(models, out=out, **options)


@pytest.fixture(scope="module")
def whole(ensemble, tmp_path_factory):
    return write(ensemble, tmp_path_factory.mktemp("whole") / "d.zarr")


def script(code, *arguments, prefix=(), **options):
    """Run Python code in a process of its own."""
    command = [*prefix, sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=800, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- operations of the file system, counted ------------------------------------------------------

# What writes, and what reads, each time that it is called; `action` comes before the n-th call.
HOOK = """
import builtins, errno, io, os, signal, sys

os.fsync = lambda descriptor: None
WRITES = [(os, name) for name in "replace rename link unlink mkdir rmdir fsync".split()]

def hook(n, action, writes=True, reads=False):
    count = [0]
    def counted(module, name, counts=lambda *_, **__: True):
        real = getattr(module, name)
        def call(*arguments, **options):
            if counts(*arguments, **options):
                count[0] += 1
                if count[0] >= n:
                    action(count[0] - n, str(arguments[0]))
            if name != "fsync":  # waiting for the disk would tell of lost power alone
                return real(*arguments, **options)
        setattr(module, name, call)
    if writes:
        for module, name in WRITES:
            counted(module, name)
        for module in (builtins, io):
            counted(module, "open", lambda file, mode="r", *_, **__: "w" in mode)
    if reads:
        builds = lambda file, mode="r", *_, **__: "log_prob" in str(file) and "r" in mode
        counted(builtins, "open", builds)
    return count

def kill(beyond, name):
    os.kill(os.getpid(), signal.SIGKILL)
"""

# One process imports and compiles, then forks two children per moment: one is killed before its
# n-th operation, the next makes the same call again; until one is not killed.
KILLS = (
    HOOK
    + """
import json, shutil
import inpca
path, mode, folder = sys.argv[1:]
out = folder + "/d.zarr"
ensemble = inpca.open_ensemble(path)
options = {"tile_size": 16, "executor": "serial"}
smaller = ensemble.select("run == 'run-0'")

def compute(out):
    more = {"extend": {"extend": True}, "restart": {"restart": True}}.get(mode, {})
    if mode == "parts":
        inpca.pairwise_distances(ensemble, out=out, part="1/2", **options)
        more = {"part": "2/2"}
    return inpca.pairwise_distances(ensemble, out=out, **options, **more)

def files(path):
    return {
        os.path.relpath(os.path.join(place, name), path):
            open(os.path.join(place, name), "rb").read()
        for place, _, names in os.walk(path) for name in names
    }

def run(n):
    child = os.fork()
    if child == 0:
        if n:
            hook(n, kill)
        compute(out)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

inpca.pairwise_distances(ensemble, out=folder + "/whole.zarr", **options)
whole = files(folder + "/whole.zarr")
base = None
if mode in ("extend", "restart"):
    base = folder + "/base.zarr"
    inpca.pairwise_distances(smaller, out=base, **options)
n, code, states = 0, -9, set()
while code == -9:
    n += 1
    if base:
        shutil.copytree(base, out)
    code = run(n)
    try:
        there = inpca.TiledMatrix.open(out)
    except inpca.InputError:
        states.add("absent")
    else:
        states.add(len(there))
        digests = {len(smaller): smaller, len(ensemble): ensemble}[len(there)]
        assert (there.digests == digests.predictions().digests()).all()
        absent = set(there.missing())
        for tile in there.grid.tiles():
            if tile not in absent:
                there.read_tile(tile)  # whole and of this list
        assert all("NaN" not in damage.reason for damage in there.verify())
    assert run(0) == 0, n
    assert files(out) == whole, n
    left = {name for name in os.listdir(folder) if name.startswith("d.zarr")}
    assert left == {"d.zarr", "d.zarr.lock"}, (n, left)
    shutil.rmtree(out)
print(json.dumps([n, sorted(map(str, states))]))
"""
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "states"),
    [
        ("new", ["60", "absent"]),
        ("extend", ["30", "60", "absent"]),
        ("restart", ["30", "60", "absent"]),
        ("parts", ["60", "absent"]),
    ],
)
def test_distances_killed_before_any_operation_on_disk__are_there_or_absent_and_go_on(
    ensemble, tmp_path, mode, states
):
    """Killed at the 1st, 2nd, 3rd, … write, rename, link, unlink or fsync until it passes."""
    n, seen = json.loads(script(KILLS, ensemble.path, mode, tmp_path))
    assert n > 30
    assert seen == states


FAILURES = (
    HOOK
    + """
import json, shutil
import inpca
from inpca import persistence
persistence._PAUSES = (0.0, 0.0, 0.0)
path, what, lasting, folder = sys.argv[1:]
lasting = lasting == "lasting"
code = getattr(errno, what.split("-")[0])
reads = what.endswith("reads")
out = folder + "/d.zarr"
ensemble = inpca.open_ensemble(path)
options = {"tile_size": 16, "executor": "serial"}

def files(path):
    return {
        os.path.relpath(os.path.join(place, name), path):
            open(os.path.join(place, name), "rb").read()
        for place, _, names in os.walk(path) for name in names
    }

def fail(beyond, name):
    if lasting or beyond == 0:
        raise OSError(code, os.strerror(code), None if name.isdigit() else name)

def run(n):
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        count = hook(n, fail, not reads, reads) if n else [0]
        try:
            inpca.pairwise_distances(ensemble, out=out, **options)
            said = "done" if not n or count[0] >= n else "passed"
        except inpca.ResourceError as error:
            said = str(error)
        except BaseException as error:
            said = f"NOT NAMED {type(error).__name__}: {error}"
        os.write(send, said.encode())
        os._exit(0)
    os.close(send)
    os.waitpid(child, 0)
    said = os.read(receive, 10_000).decode()
    os.close(receive)
    return said

inpca.pairwise_distances(ensemble, out=folder + "/whole.zarr", **options)
whole = files(folder + "/whole.zarr")
n, said = 0, []
while not said or said[-1] != "passed":
    n += 1
    said.append(run(n))
    if said[-1] == "done":
        assert files(out) == whole, n
    assert run(0) == "done", n
    assert files(out) == whole, n
    left = {name for name in os.listdir(folder) if name.startswith("d.zarr")}
    assert left == {"d.zarr", "d.zarr.lock"}, (n, left)
    shutil.rmtree(out)
print(json.dumps(said))
"""
)


@pytest.mark.slow
@pytest.mark.parametrize("lasting", ["once", "lasting"])
@pytest.mark.parametrize(
    ("what", "cure"),
    [
        ("EIO-writes", "see that the disk is well"),
        ("EIO-reads", "see that the disk is well"),
        ("ENOSPC-writes", "free some space"),
        ("EROFS-writes", "make it writeable"),
    ],
)
def test_distances_refused_any_operation_on_disk__say_which_file_or_try_again(
    ensemble, tmp_path, what, lasting, cure
):
    """At the 1st, 2nd, 3rd, … operation until it passes; then the same call goes on."""
    said = json.loads(script(FAILURES, ensemble.path, what, lasting, tmp_path))
    assert said[-1] == "passed"
    refused = [text for text in said[:-1] if text != "done"]
    assert all(cure in text and str(tmp_path.parent.parent) in text for text in refused), refused
    if lasting == "lasting" and what != "EIO-writes":
        assert len(refused) > len(said) // 2
    if (what, lasting) == ("EIO-reads", "once"):
        assert not refused
    if (what, lasting) == ("EIO-writes", "once"):
        assert "done" in said


# --- SIGKILL at any moment -----------------------------------------------------------------------

JOB = """
import sys, time
import inpca
from inpca.distance.sinks import MatrixSink
real = MatrixSink.write
def write(*arguments):
    time.sleep(0.005)  # so that killing in the middle is likely
    real(*arguments)
MatrixSink.write = write
ensemble, pairwise_distances = inpca.open_ensemble(sys.argv[1]), inpca.pairwise_distances
print("begun", flush=True)
pairwise_distances(ensemble, out=sys.argv[2], tile_size=4, executor=1)
"""


@pytest.mark.slow
def test_distances__killed_fifty_times_resume_to_the_same_bytes(ensemble, tmp_path):
    whole = write(ensemble, tmp_path / "whole" / "d.zarr", tile_size=4)
    out = tmp_path / "out" / "d.zarr"
    rng = np.random.default_rng(int(os.environ.get("INPCA_TEST_SEED", "11")))
    left = []
    for _ in range(50):
        with subprocess.Popen(
            [sys.executable, "-c", JOB, ensemble.path, out], stdout=subprocess.PIPE
        ) as job:
            job.stdout.readline()
            time.sleep(rng.exponential(0.4))
            job.send_signal(signal.SIGKILL)
        left.append(len(TiledMatrix.open(out).missing()) if out.exists() else 120)
        if not left[-1]:  # perhaps before it noted that all of them are there
            write(ensemble, out, tile_size=4)
            assert files(out) == files(whole.path)
            shutil.rmtree(out)
    write(ensemble, out, tile_size=4)
    assert files(out) == files(whole.path)
    assert {entry.name for entry in out.parent.iterdir()} == {"d.zarr", "d.zarr.lock"}
    assert len(set(left)) > 3, "some were killed in the middle"


# --- what the machine refuses --------------------------------------------------------------------


def test_file_that_may_not_be_that_long__is_named_with_the_cure(ensemble, whole, tmp_path):
    code = """
    import resource, sys
    import inpca
    ensemble = inpca.open_ensemble(sys.argv[1])
    inpca.pairwise_distances(ensemble, executor=1)  # what is compiled is saved, in larger files
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, resource.RLIM_INFINITY))
    options = {"out": sys.argv[2], "tile_size": 50, "executor": 1}
    try:
        inpca.pairwise_distances(ensemble, **options)
    except inpca.ResourceError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    assert inpca.pairwise_distances(ensemble, **options).verify() == []
    """
    said = script(code, ensemble.path, tmp_path / "d.zarr")
    assert "distance/c." in said  # several are written at once: any may be the first
    assert "File too large; raise the limit of file sizes (ulimit -f)" in said
    assert not list(tmp_path.rglob("*.partial"))


def test_disk_that_is_full__is_named_and_the_job_goes_on_when_there_is_space(ensemble, tmp_path):
    prefix = ["unshare", "--mount", "--"]
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    if (
        not shutil.which("unshare")
        or subprocess.run(prefix + mount, capture_output=True).returncode
    ):
        pytest.skip("may not mount a small disk of its own here")
    code = """
    import os, pathlib, subprocess, sys
    import inpca
    from inpca.distance import planner
    subprocess.run(sys.argv[2:], check=True)
    folder = pathlib.Path(sys.argv[-1])
    ensemble = inpca.open_ensemble(sys.argv[1])
    (folder / "ballast").write_bytes(bytes(1_040_000))
    options = {"out": folder / "d.zarr", "tile_size": 32, "executor": 1}
    try:
        inpca.pairwise_distances(ensemble, **options)
    except inpca.ResourceError as error:
        print(error)
    planner.free_disk = lambda folder: 10**9  # what others write meanwhile is not foreseen
    (folder / "ballast").write_bytes(bytes(960_000))
    while True:
        try:
            matrix = inpca.pairwise_distances(ensemble, **options)
            break
        except inpca.ResourceError as error:
            print(error)
            os.truncate(folder / "ballast", os.path.getsize(folder / "ballast") - 20_000)
    assert matrix.verify() == []
    assert not list(folder.rglob("*.partial"))
    """
    said = script(code, ensemble.path, *mount, prefix=prefix).splitlines()
    assert "on disk but" in said[0], "refused before any work where it can be foreseen"
    assert len(said) > 1
    assert all("No space left on device; free some space" in line for line in said[1:])


def test_budget_too_small_for_one_tile__is_refused_before_any_work(ensemble, tmp_path):
    with pytest.raises(ResourceError, match=r"smallest block needs .* but `memory` is"):
        write(ensemble, tmp_path / "d.zarr", memory="10kB")
    assert list(tmp_path.iterdir()) == []


def test_budget_too_small__on_resume_leaves_what_is_there(ensemble, whole, tmp_path):
    copy = shutil.copytree(whole.path, tmp_path / "d.zarr")
    TiledMatrix.open(copy).remove_tile((0, 1))
    before = files(copy)
    with pytest.raises(ResourceError, match="smallest block"):
        write(ensemble, copy, memory="10kB")
    assert files(copy) == before


@pytest.mark.parametrize("tile_size", [2, 7, 59, 60, 61, 1000])
def test_tile_size__that_does_not_divide_is_as_good(ensemble, whole, tmp_path, tile_size):
    matrix = write(ensemble, tmp_path / "d.zarr", tile_size=tile_size)
    assert (matrix.to_array() == whole.to_array()).all()
    assert matrix.verify() == []


@pytest.mark.parametrize("tile_size", [0, -1, True])
def test_tile_size__that_is_none_is_refused(ensemble, tmp_path, tile_size):
    with pytest.raises(InputError, match="`tile_size` must be at least 1"):
        write(ensemble, tmp_path / "d.zarr", tile_size=tile_size)
    assert list(tmp_path.iterdir()) == []


# --- locks, inputs, metadata ---------------------------------------------------------------------


def test_two_engines__on_one_output_the_second_is_refused(ensemble, tmp_path):
    code = """
    import sys
    import inpca
    def report(done, total, text):
        if done:
            print("at work", flush=True)
            sys.stdin.read()
    inpca.pairwise_distances(
        inpca.open_ensemble(sys.argv[1]), out=sys.argv[2], tile_size=16, progress=report,
    )
    """
    out = tmp_path / "d.zarr"
    command = [sys.executable, "-c", textwrap.dedent(code), ensemble.path, out]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        first.stdout.readline()
        for options in ({}, {"restart": True}, {"extend": True}, {"repair": True}, {"part": "1/2"}):
            with pytest.raises(ResourceError, match="being written by another process"):
                write(ensemble, out, **options)
        first.send_signal(signal.SIGKILL)
    # The dead engine's lock files are still there, and in nobody's way.
    assert (tmp_path / "d.zarr.part-1-of-1.lock").exists()
    assert write(ensemble, out).verify() == []
    assert not (tmp_path / "d.zarr.part-1-of-1.lock").exists()


def test_inputs_changed_between_start_and_resume__are_refused(log_p, tmp_path):
    labels = np.arange(N_SAMPLES) % N_CLASSES
    ensemble = inpca.create_ensemble(tmp_path / "e", sample_sets={"train": labels}, n_classes=4)
    ensemble.add_run("a", {"train": log_p}, kind="log_probs")
    write(ensemble, tmp_path / "d.zarr").remove_tile((0, 1))
    with ensemble.start_run("a", restart=True) as writer:
        for step, model in enumerate(log_p[::-1]):
            writer.append({"train": model}, "log_probs", step=step, epoch=0)
    for options in ({}, {"extend": True}, {"part": "1/2"}):
        with pytest.raises(InputError, match=r"predictions|not what they were"):
            write(inpca.open_ensemble(ensemble.path), tmp_path / "d.zarr", **options)


@pytest.mark.parametrize("content", [b"", b"{", b'{"attributes": {}}', b"\0" * 100])
def test_damaged_metadata__is_named_and_replaced_on_request(ensemble, whole, tmp_path, content):
    copy = shutil.copytree(whole.path, tmp_path / "d.zarr")
    (copy / "zarr.json").write_bytes(content)
    with pytest.raises(inpca.DamagedStoreError, match=r"d\.zarr/zarr\.json"):
        write(ensemble, copy)
    write(ensemble, copy, restart=True)
    assert files(copy) == files(whole.path)


def test_count_of_capped_contributions_that_is_damaged__is_found_and_repaired(
    ensemble, whole, tmp_path
):
    copy = shutil.copytree(whole.path, tmp_path / "d.zarr")
    (count,) = (copy / "floored").glob("c.*")
    count.write_bytes(count.read_bytes()[:-1])
    assert [damage.key for damage in TiledMatrix.open(copy).verify()] == ["distance/c.0.0"]
    with pytest.raises(inpca.DamagedStoreError, match=r"floored/c\.0\.0"):
        write(ensemble, copy)
    write(ensemble, copy, repair=True)
    assert files(copy) == files(whole.path)


def test_persistently__gives_up_after_three_more_times(monkeypatch):
    pauses = []
    monkeypatch.setattr(persistence.time, "sleep", pauses.append)

    def fail(times, code):
        left = [times]

        def action():
            if left[0]:
                left[0] -= 1
                raise OSError(code, os.strerror(code))
            return "done"

        return action

    assert persistence.persistently(fail(3, errno.EIO)) == "done"
    assert pauses == [0.1, 0.5, 2.0]
    with pytest.raises(OSError, match="Input/output"):
        persistence.persistently(fail(4, errno.EIO))
    with pytest.raises(OSError, match="No space"):
        persistence.persistently(fail(1, errno.ENOSPC))


# --- Ctrl-C --------------------------------------------------------------------------------------

INTERRUPTED = """
import sys, time
from inpca import cli
from inpca.distance import engine
real, seconds = engine._read, float(sys.argv.pop(1))
def read(*arguments):
    print("begun\\n", end="", flush=True)  # at once: another thread may say the same
    time.sleep(seconds)
    real(*arguments)
    print("ended\\n", end="", flush=True)
engine._read = read
cli.main()
"""


def interrupt(ensemble, seconds, times):
    command = [sys.executable, "-c", INTERRUPTED, str(seconds), "distances", ensemble.path]
    command += ["--name", f"interrupted-{times}", "--workers", "2", "--quiet", "--no-references"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as job:
        assert job.stdout.readline() == "begun\n"
        for _ in range(times):
            job.send_signal(signal.SIGINT)
            hint = job.stderr.readline()
            assert times == 2 or "finishing what runs" in hint
        job.wait(timeout=300)  # half of what a task takes that is not stopped
        out = job.stdout.read()  # communicate would miss what `readline` has read beyond its line
    return job.returncode, ["begun", *out.split()]


def test_ctrl_c__once_lets_running_tasks_end_and_exits_with_130(ensemble):
    code, said = interrupt(ensemble, 0.5, 1)
    assert code == 130
    assert said.count("ended") == said.count("begun") > 0
    done = write(ensemble, ensemble.distances_path("interrupted-1"), tile_size=None)
    assert done.verify() == []


def test_ctrl_c__twice_stops_at_once(ensemble):
    code, said = interrupt(ensemble, 600, 2)
    assert code == 130
    assert "ended" not in said
    done = write(ensemble, ensemble.distances_path("interrupted-2"), tile_size=None)
    assert done.verify() == []


def test_plan_that_does_not_fit_the_disk__is_refused_before_any_work(
    ensemble, tmp_path, monkeypatch
):
    monkeypatch.setattr(planner, "free_disk", lambda folder: 1000)
    with pytest.raises(ResourceError, match=r"need .* on disk but 1\.0 kB are free"):
        write(ensemble, tmp_path / "d.zarr")
    assert list(tmp_path.iterdir()) == []
