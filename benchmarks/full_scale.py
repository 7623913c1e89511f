"""The whole job at full size: 2,296 runs, 151,407 models, 1,000 samples, 10 classes, on disk.

    python benchmarks/full_scale.py FOLDER [--scale 1] [--memory 10GB] [--kill] [--clean]

Makes a synthetic ensemble (about 6 GB), runs `inpca distances` and `inpca embed` on it as anybody
would, and prints what they took: wall time, peak resident memory, bytes on disk, as a table in
Markdown; FOLDER/full_scale.json holds the same. With `--kill` each phase is killed once (SIGKILL)
at a random moment and called again; its time is that of all its calls together.

Called again in the same folder it goes on where it ended: finished phases are not repeated, and
their figures are kept. The full size needs about 55 GB of disk, and Linux (peaks are from /proc).
"""

import argparse
import datetime
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

# What only some steps need is imported there: the process that watches the others stays small.
import inpca
from inpca.units import format_bytes, format_seconds

N_RUNS, N_MODELS, N_SAMPLES, N_CLASSES = 2296, 151_407, 1000, 10
_FEWEST, _MOST = 62, 73  # checkpoints of a run
_NOTE_SECONDS = 5.0  # how much of a measurement is lost if this program itself is killed
_KILL_TRIES = 5


@dataclass(frozen=True)
class Settings:
    """What makes two calls in one folder the same job."""

    scale: float
    memory: str
    components: int
    seed: int
    workers: int
    kill: bool

    @property
    def n_runs(self) -> int:
        return max(2, round(N_RUNS * self.scale))

    @property
    def n_models(self) -> int:
        return round(N_MODELS * self.n_runs / N_RUNS)


# --- the synthetic ensemble ------------------------------------------------------------------


def checkpoint_counts(settings: Settings) -> NDArray[np.int64]:
    """Checkpoints of each run: 62 … 73, that sum to `n_models` exactly."""
    rng = np.random.default_rng([settings.seed, 1])
    counts = rng.integers(_FEWEST, _MOST + 1, settings.n_runs)
    while (missing := settings.n_models - int(counts.sum())) != 0:
        room = np.flatnonzero(counts < _MOST if missing > 0 else counts > _FEWEST)
        chosen = rng.permutation(room)[: min(abs(missing), 1 + settings.n_runs // 16)]
        counts[chosen] += np.sign(missing)
    return counts


# How far each architecture gets on the clock of learning: the linear one ends at a high error.
_REACH = {"linear": 1.2, "fc": 2.5, "allcnn": 6.0, "resnet": 8.0, "wideresnet": 8.0, "vit": 4.0}
_ARCHITECTURES = tuple(_REACH)
_OPTIMIZERS = ("sgd", "momentum", "adam")
_RATES, _BATCHES, _DECAYS = (0.25, 1.0), (200, 1000), (0.0, 1e-3)


def run_config(index: int) -> dict[str, Any]:
    """The configuration of run `index`: every combination, then the next seed."""
    config: dict[str, Any] = {}
    for name, values in (
        ("architecture", _ARCHITECTURES),
        ("optimizer", _OPTIMIZERS),
        ("rate", _RATES),
        ("batch_size", _BATCHES),
        ("weight_decay", _DECAYS),
    ):
        index, place = divmod(index, len(values))
        config[name] = values[place]
    return config | {"seed": index}


class World:
    """What all runs share: labels, how hard each sample is and what it is mistaken for.

    Learning is a clock τ that passes each sample's time θ_n; architectures and, less, optimizers
    shift these times along a few directions, and the logits along patterns of falling weight.
    A seed does the same, less: few strong dimensions and a tail, as in trained networks.
    """

    n_factors, n_patterns = 8, 64

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([seed, 0])
        self.seed = seed
        self.labels = np.arange(N_SAMPLES) % N_CLASSES
        # Most samples are easy, a tenth takes ten times as long: stragglers.
        self.times = rng.gamma(1.6, 0.55, N_SAMPLES).astype(np.float32)
        places = rng.normal(size=(N_CLASSES, 2))  # classes near each other are mistaken first
        apart = ((places[:, None] - places[None]) ** 2).sum(axis=2)
        likeness = np.exp(-apart / np.median(apart))
        self.likeness = (likeness - likeness.mean()).astype(np.float32)[self.labels]
        rival = np.where(np.eye(N_CLASSES, dtype=bool), -np.inf, likeness)[self.labels]
        rival = rival + 0.3 * rng.gumbel(size=rival.shape)
        self.rivals = np.eye(N_CLASSES, dtype=np.float32)[rival.argmax(axis=1)]
        self.truth = np.eye(N_CLASSES, dtype=np.float32)[self.labels]
        decay = 0.75 ** np.arange(self.n_factors)[:, None]
        self.factors = (decay * rng.normal(size=(self.n_factors, N_SAMPLES))).astype(np.float32)
        shape = (self.n_patterns, N_SAMPLES, N_CLASSES)
        decay = np.arange(1, self.n_patterns + 1)[:, None, None] ** -0.7
        self.patterns = (decay * rng.normal(size=shape)).astype(np.float32)

    def logits(self, index: int, count: int) -> NDArray[np.float32]:
        """Predictions of every checkpoint of run `index`, (count, n_samples, n_classes)."""
        config = run_config(index)
        rng = np.random.default_rng([self.seed, 2, index])
        house = np.random.default_rng([self.seed, 3, _ARCHITECTURES.index(config["architecture"])])
        school = np.random.default_rng([self.seed, 4, _OPTIMIZERS.index(config["optimizer"])])

        def drawn(size: int, of_house: float, of_school: float, own: float) -> NDArray[np.float64]:
            parts = (house.normal(size=size), school.normal(size=size), rng.normal(size=size))
            return np.tensordot((of_house, of_school, own), parts, axes=1)

        speed = np.exp(drawn(1, 0.35, 0.25, 0.12))[0] * (1.0, 1.5)[config["rate"] == 1.0]
        reach = _REACH[config["architecture"]]
        clock = 7.0 * speed * np.linspace(0, 1, count) ** 2  # many checkpoints early, as recorded
        clock = reach * -np.expm1(-clock / reach)
        times = self.times + (drawn(self.n_factors, 0.4, 0.2, 0.1) @ self.factors)
        sharpness = 2.2 if config["batch_size"] == 200 else 1.6
        learnt = np.logaddexp(0, sharpness * (clock[:, None] - times))  # (count, n_samples)
        learnt -= learnt[0]
        top = 10.0 if config["weight_decay"] == 0 else 7.0  # margins level off: not saturated
        margin = top * np.tanh(learnt / top)
        early = np.exp(-0.7 * clock) * (1 - np.exp(-4 * clock))
        doubt = 2.2 * np.exp(-((clock[:, None] - 0.8 * times) ** 2)) * np.minimum(1, times)
        patterns = np.tensordot(
            drawn(self.n_patterns, 0.5, 0.25, 0.25).astype(np.float32), self.patterns, axes=1
        )
        grown = 1 - np.exp(-clock)
        own = 0.3 * rng.normal(size=(N_SAMPLES, N_CLASSES)).astype(np.float32)
        logits = margin.astype(np.float32)[:, :, None] * self.truth
        logits += doubt.astype(np.float32)[:, :, None] * self.rivals
        logits += (2.5 * early).astype(np.float32)[:, None, None] * self.likeness
        logits += grown.astype(np.float32)[:, None, None] * (patterns + own)
        logits += self._start(rng, clock)
        return logits

    def _start(self, rng: np.random.Generator, clock: NDArray[Any]) -> NDArray[np.float32]:
        """Random weights: near ignorance, one class a little preferred, soon forgotten."""
        fading = np.exp(-2 * clock).astype(np.float32)[:, None, None]
        bias = 0.25 * rng.normal(size=N_CLASSES).astype(np.float32)
        return fading * (bias + 0.1 * rng.normal(size=(N_SAMPLES, N_CLASSES)).astype(np.float32))


def record_run(path: str, seed: int, index: int, count: int) -> None:
    """Make run `index` and add it to the ensemble at `path`: it is there whole, or not at all."""
    if not _WORLD:
        _WORLD.append(World(seed))
    steps = np.unique(np.round(np.linspace(0, 1, count) ** 2 * 40_000).astype(np.int64) + 1)
    steps = np.arange(count) if len(steps) < count else steps
    inpca.open_ensemble(path).add_run(
        _run_id(index),
        {"train": _WORLD[0].logits(index, count)},
        kind="logits",
        step=steps,
        epoch=steps / 200,
        config=run_config(index),
    )


_WORLD: list[World] = []  # one for each worker process


def _run_id(index: int) -> str:
    return f"run-{index:04d}"


def make_ensemble(path: Path, settings: Settings) -> None:
    """Make the ensemble at `path`, or the runs that it lacks."""
    from inpca.store.check import tidy_run

    labels = World(settings.seed).labels
    sets = {"train": labels}
    ensemble = inpca.create_ensemble(path, sample_sets=sets, n_classes=N_CLASSES, exist_ok=True)
    there = set(ensemble.runs)
    for run in there:  # its writer may have been killed after the commit
        tidy_run(path, run)
    counts = checkpoint_counts(settings)
    todo = [index for index in range(settings.n_runs) if _run_id(index) not in there]
    with ProcessPoolExecutor(settings.workers, mp_context=get_context("spawn")) as pool:
        arguments = ([str(path)] * len(todo), [settings.seed] * len(todo), todo, counts[todo])
        for _ in pool.map(record_run, *arguments):
            pass  # raises what a worker raised


# --- measuring -------------------------------------------------------------------------------


@dataclass
class Attempt:
    """One call of a phase's command."""

    seconds: float = 0.0
    peak_bytes: int = 0
    outcome: str = "running"  # then done, killed, failed


@dataclass
class Measured:
    """One phase: its calls, and what lies on disk after the last."""

    attempts: list[Attempt] = field(default_factory=list)
    disk_bytes: int = 0
    done: bool = False

    @property
    def seconds(self) -> float:
        return sum(attempt.seconds for attempt in self.attempts)

    @property
    def peak_bytes(self) -> int:
        return max((attempt.peak_bytes for attempt in self.attempts), default=0)

    @property
    def kills(self) -> int:
        return sum(attempt.outcome == "killed" for attempt in self.attempts)


@dataclass(frozen=True)
class Phase:
    """A command, what it leaves, and how far it has come by what it writes meanwhile.

    Attributes
    ----------
    name : for the table
    command : as a user would type it
    result : what it leaves
    begun : what is there from the first bit of its work on
    milestones, total : how many pieces of its work are on disk, of how many
    """

    name: str
    command: Sequence[str]
    result: Path
    begun: Path
    milestones: Callable[[], int]
    total: int


class Trigger:
    """When to kill: a random part of the work is done, and then a random while has passed.

    Work that is written all at the end ends before that; then `seconds`, what it took, is known.
    """

    def __init__(self, phase: Phase, rng: np.random.Generator, seconds: float | None) -> None:
        self._phase = phase
        self._target = max(1, round(phase.total * rng.uniform(0, 0.7)))
        self._wait = rng.uniform(0, 0.3)  # of the time that the rest will take at this pace
        self._start: float | None = None
        self._moment: float | None = None
        if seconds is not None:
            self._moment = time.perf_counter() + seconds * rng.uniform(0.1, 0.8)

    def pulled(self) -> bool:
        """Whether the moment has come."""
        now = time.perf_counter()
        if self._moment is None:
            reached = self._phase.milestones()
            if self._start is None and self._phase.begun.exists():
                self._start = now
            if reached >= self._target and self._start is not None:
                left = max(0.0, self._phase.total / reached - 1) * (now - self._start)
                self._moment = now + self._wait * left
        return self._moment is not None and now >= self._moment


def call(
    command: Sequence[str], log: Path, attempt: Attempt, trigger: Trigger | None, note: Any
) -> None:
    """Run `command`, measured, until it ends or `trigger` is pulled; `note` saves what is known."""
    start = noted = time.perf_counter()
    next_look = start
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with open(log, "ab") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, env=environment, start_new_session=True
        )
        try:
            while process.poll() is None:
                begin = time.perf_counter()
                if begin >= next_look:
                    attempt.peak_bytes = max(attempt.peak_bytes, tree_peak(process.pid))
                    attempt.seconds = time.perf_counter() - start
                    # Watching must not slow down what is watched: at most 2 % of a core.
                    next_look = begin + max(0.1, 50 * (time.perf_counter() - begin))
                if begin >= noted + _NOTE_SECONDS:
                    noted = begin
                    note()
                if trigger is not None and trigger.pulled():
                    break
                time.sleep(max(0.01, 10 * (time.perf_counter() - begin)))
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    attempt.seconds = time.perf_counter() - start
    code = process.returncode
    attempt.outcome = {0: "done", -signal.SIGKILL: "killed"}.get(code, "failed")


def tree_peak(pid: int) -> int:
    """Σ of the peak resident bytes (VmHWM) of a process and all below it; 0 if it has gone."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    return sum(_high_water(one.pid) for one in family)


def _high_water(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
        return 0
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0  # a zombie has no memory


def disk_bytes(path: Path) -> int:
    """Bytes of all files below `path`."""
    if not path.exists():
        return 0
    total, folders = 0, [str(path)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    total += entry.stat(follow_symlinks=False).st_size
    return total


# --- the job ---------------------------------------------------------------------------------


class Job:
    """The phases in one folder, with what is known of them."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder, self.settings = folder, settings
        self.ensemble = folder / "full.ensemble"
        self.record = folder / "full_scale.json"
        self.measured: dict[str, Measured] = {}
        self.extra: dict[str, Any] = {}
        folder.mkdir(parents=True, exist_ok=True)
        if self.record.exists():
            self._load()

    def _load(self) -> None:
        known = json.loads(self.record.read_text())
        if known["settings"] != asdict(self.settings):
            raise SystemExit(
                f"{self.folder} holds a job with other settings ({known['settings']}); give the "
                "same, or another folder."
            )
        for name, phase in known["phases"].items():
            attempts = [Attempt(**attempt) for attempt in phase["attempts"]]
            for attempt in attempts:
                if attempt.outcome == "running":
                    attempt.outcome = "cut off"  # with this program; at most 5 s are not counted
            self.measured[name] = Measured(attempts, phase["disk_bytes"], phase["done"])
        self.extra = known["extra"]

    def note(self) -> None:
        """Save what is known."""
        content = {
            "settings": asdict(self.settings),
            "n_runs": self.settings.n_runs,
            "n_models": self.settings.n_models,
            "n_samples": N_SAMPLES,
            "n_classes": N_CLASSES,
            "phases": {
                name: asdict(one)
                | {"seconds": one.seconds, "peak_bytes": one.peak_bytes, "kills": one.kills}
                for name, one in self.measured.items()
            },
            "extra": self.extra,
        }
        partial = self.record.with_suffix(".partial")
        partial.write_text(json.dumps(content, indent=2))
        os.replace(partial, self.record)

    @cached_property
    def phases(self) -> list[Phase]:
        """Make, distances, embed: the last two as a user would call them."""
        inside, ensemble = self.ensemble, str(self.ensemble)
        program = [sys.executable, "-c", "from inpca.cli import main; main()"]
        memory = ["--memory", self.settings.memory, "--workers", str(self.settings.workers)]
        matrix = inside / "distances" / "train.zarr"
        passes = inside / "embeddings" / "train.passes"
        # Small ones would be solved densely; the full size never is.
        components = ["--components", str(self.settings.components), "--solver", "lanczos"]
        return [
            Phase(
                "make",
                [sys.executable, __file__, *sys.argv[1:], "--make-only"],
                inside,
                inside / "runs",
                lambda: _count(inside / "runs", "run-"),
                self.settings.n_runs,
            ),
            Phase(
                "distances",
                [*program, "distances", ensemble, *memory],
                matrix,
                matrix,
                lambda: _count(matrix / "distance", "c."),
                _n_tiles(self.settings.n_models + 2),
            ),
            Phase(
                "embed",
                [*program, "embed", ensemble, *components, *memory],
                inside / "embeddings" / "train.zarr",
                passes,
                lambda: _count(passes, "pass-"),
                3,  # fewer passes than any solve takes
            ),
        ]

    @property
    def done(self) -> bool:
        """Whether every phase has ended and its figures are known."""
        return "machine" in self.extra

    def run(self) -> None:
        """Every phase that is not done, in order."""
        for number, phase in enumerate(self.phases):
            measured = self.measured.setdefault(phase.name, Measured())
            if measured.done:
                print(f"{phase.name}: done before", file=sys.stderr)
                continue
            print(f"{phase.name}: {format_bytes(self.left())} still to write", file=sys.stderr)
            rng = np.random.default_rng([self.settings.seed, 5, number])
            if self.settings.kill and not measured.kills:
                self._kill_once(phase, measured, rng)
            self._call(phase, measured, None)
            measured.done = True
            measured.disk_bytes = disk_bytes(phase.result)
            if phase.name == "make":
                self.extra["plan"] = self._plan()
            self.note()
        if not self.done:
            self.extra["embedding"] = self._describe_embedding()
            self.extra["machine"] = _machine()
            self.note()

    def _call(self, phase: Phase, measured: Measured, trigger: Trigger | None) -> None:
        attempt = Attempt()
        measured.attempts.append(attempt)
        log = self.folder / f"{phase.name}.log"
        call(phase.command, log, attempt, trigger, self.note)
        self.note()
        text = f"{phase.name}: {attempt.outcome} after {format_seconds(attempt.seconds)}"
        print(text, file=sys.stderr)
        if attempt.outcome == "failed" or (trigger is None and attempt.outcome != "done"):
            tail = log.read_text(errors="replace").splitlines()[-15:]
            raise SystemExit("\n".join([f"{phase.name} has failed:", *tail]))

    def _kill_once(self, phase: Phase, measured: Measured, rng: np.random.Generator) -> None:
        """Call the phase and kill it; one that ended before is done again from its beginning."""
        seconds = None
        for _ in range(_KILL_TRIES):
            self._call(phase, measured, Trigger(phase, rng, seconds))
            if measured.kills:
                return
            print(f"{phase.name}: ended before it was killed; again", file=sys.stderr)
            seconds = measured.seconds
            measured.attempts.clear()
            self.note()
            shutil.rmtree(phase.result)
        raise SystemExit(f"{phase.name} always ended before it was killed; use a larger --scale.")

    def _plan(self) -> dict[str, Any]:
        program = self.phases[1].command[:3]
        command = [*program, "plan", str(self.ensemble), "--memory", self.settings.memory, "--json"]
        command += ["--workers", str(self.settings.workers)]
        record = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        return dict(record)

    def _describe_embedding(self) -> dict[str, Any]:
        path = inpca.open_ensemble(self.ensemble).embeddings_path("train")
        embedding = inpca.load_embedding(path)
        return {
            "passes": int(embedding.n_passes_),
            "converged": int(embedding.converged_.sum()),
            "largest_residual": float((embedding.residuals_ / embedding.eigenvalues_[0]).max()),
            "time_like": int((embedding.signature_ < 0).sum()),
            "time_like_of_first_10": int((embedding.signature_[:10] < 0).sum()),
            "explained_stress": [float(x) for x in embedding.explained_stress_[[0, 2, 9, -1]]],
            "eigenvalues": [float(x) for x in embedding.eigenvalues_[:10]],
        }

    def left(self) -> int:
        """Bytes that are still to be written."""
        return max(0, disk_needed(self.settings) - disk_bytes(self.ensemble))

    def check_disk(self) -> None:
        """Refuse before any work what will not fit."""
        needed, free = self.left(), shutil.disk_usage(self.folder).free
        if needed > free:
            raise SystemExit(
                f"{self.settings.n_models:,} models need {format_bytes(needed)} more on disk but "
                f"{format_bytes(free)} are free at {self.folder}; free some, name another folder, "
                "or give a smaller --scale."
            )


def disk_needed(settings: Settings) -> int:
    """Bytes of predictions, tiles, passes and embedding, with a twentieth to spare."""
    from inpca.distance.planner import default_tile_size

    m, block = settings.n_models + 2, 64 if settings.components <= 50 else 128
    predictions = m * (N_SAMPLES * N_CLASSES * 4 + 200)
    tiles = _n_tiles(m) * (default_tile_size(m) ** 2 * 4 + 4)
    passes = 10 * m * block * 8
    embedding = m * (2 * settings.components * 8 + 500)
    return round(1.05 * (predictions + tiles + passes + embedding))


def _n_tiles(n_models: int) -> int:
    from inpca.distance.planner import default_tile_size
    from inpca.tiling import TileGrid

    return TileGrid(n_models, default_tile_size(n_models)).n_tiles


def _count(folder: Path, prefix: str) -> int:
    """Entries of `folder` that are whole: a `*.partial` is not."""
    if not folder.is_dir():
        return 0
    names = os.listdir(folder)
    return sum(name.startswith(prefix) and not name.endswith(".partial") for name in names)


def _machine() -> dict[str, Any]:
    from inpca.backend import machine

    known = machine().to_dict()
    names = ("platform", "processor", "cores", "memory_total")
    return {name: known[name] for name in names} | {"date": datetime.date.today().isoformat()}


# --- the report ------------------------------------------------------------------------------


def table(job: Job) -> list[str]:
    """The figures in Markdown."""
    machine, plan, embedding = (job.extra[name] for name in ("machine", "plan", "embedding"))
    lines = [
        f"{job.settings.n_runs:,} runs, {job.settings.n_models:,} models (and 2 reference models), "
        f"N = {N_SAMPLES:,}, C = {N_CLASSES}; {machine['cores']} cores, {machine['processor']}, "
        f"{machine['date']}; `--memory {job.settings.memory}`.",
        "",
        "| phase | time | of which the killed call | peak memory | on disk |",
        "|---|---|---|---|---|",
    ]
    lines += [_row(name, one) for name, one in job.measured.items()]
    both = [job.measured[name] for name in ("distances", "embed")]
    seconds, peak = sum(one.seconds for one in both), max(one.peak_bytes for one in both)
    stress = " / ".join(f"{value:.3f}" for value in embedding["explained_stress"])
    lines += [
        f"| **distances + embed** | {format_seconds(seconds)} | | {format_bytes(peak)} | |",
        "",
        f"Plan: {plan['n_blocks']} blocks, {format_bytes(plan['memory_needed'])}, "
        f"{format_bytes(plan['bytes_read'])} read, {format_seconds(plan['seconds'])}. "
        f"Pairs per second over the whole phase: {plan['n_pairs'] / both[0].seconds:.3g}; "
        f"{plan['flops'] / both[0].seconds / 1e9:.0f} GFLOP/s.",
        f"Embedding: {embedding['passes']} passes, {embedding['converged']} of "
        f"{job.settings.components} pairs converged, {embedding['time_like']} time-like, explained "
        f"stress of 1 / 3 / 10 / all components {stress}.",
    ]
    return lines


def _row(name: str, one: Measured) -> str:
    killed = sum(attempt.seconds for attempt in one.attempts if attempt.outcome == "killed")
    lost = format_seconds(killed) if one.kills else "–"
    cells = (name, format_seconds(one.seconds), lost, format_bytes(one.peak_bytes))
    return f"| {' | '.join(cells)} | {format_bytes(one.disk_bytes)} |"


# --- the command -----------------------------------------------------------------------------


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="where everything is put; made if not there")
    parser.add_argument("--scale", type=float, default=1.0, help="part of the runs, e.g. 0.01")
    parser.add_argument("--memory", default="10GB", help="for distances and embed")
    parser.add_argument("--components", type=int, default=50)
    parser.add_argument("--workers", type=int, default=2, help="processes, then threads")
    parser.add_argument("--seed", type=int, default=0, help="of the models and of the kills")
    parser.add_argument("--kill", action="store_true", help="kill each phase once, and go on")
    end = parser.add_mutually_exclusive_group()
    end.add_argument("--keep", action="store_true", help="keep the ensemble (the default)")
    end.add_argument("--clean", action="store_true", help="remove the ensemble at the end")
    parser.add_argument("--make-only", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if not 0 < options.scale <= 1:
        parser.error(f"--scale must be above 0 and at most 1, not {options.scale}")
    if options.workers < 1:
        parser.error(f"--workers must be at least 1, not {options.workers}")
    return options


def main() -> None:
    """Make, measure, print."""
    options = parse()
    settings = Settings(
        options.scale,
        options.memory,
        options.components,
        options.seed,
        options.workers,
        options.kill,
    )
    if options.make_only:
        make_ensemble(options.folder / "full.ensemble", settings)
        return
    job = Job(options.folder, settings)
    if not job.done:
        job.check_disk()
    job.run()
    print("\n".join(table(job)))
    if options.clean and job.ensemble.exists():
        shutil.rmtree(job.ensemble)


if __name__ == "__main__":
    main()
