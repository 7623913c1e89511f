"""The demonstration: real networks on real digits, from training to one page to look at.

Every step keeps what it finds on disk, so that a second call does nothing twice.
"""

import json
import os
import shutil
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from inpca.cli.services import say
from inpca.errors import InputError
from inpca.reporting import ProgressArgument, reporting

if TYPE_CHECKING:
    from collectors.zoo.sweep import Sweep
    from collectors.zoo.training import Training
    from inpca.embedding.inpca import InPCA
    from inpca.store.ensemble import Ensemble

STRESS_RANKS = (1, 3, 10)
FIGURES = {"pairs": "pairs", "scatter": "3d", "spectrum": "spectrum"}  # file → what it shows
_TITLE = "Networks learning to read digits"
# Chosen so that every network reaches its plateau within 30 epochs.
_LEARNING_RATES = {
    "nesterov": {"linear": 0.05, "mlp": 0.05, "cnn": 0.05, "attention": 0.05},
    "adam": {"linear": 5e-3, "mlp": 2e-3, "cnn": 3e-3, "attention": 3e-3},
}


@dataclass(frozen=True)
class Settings:
    """What the demonstration trains and computes.

    Attributes
    ----------
    architectures, optimizers, seeds : a run for each combination; all of these are embedded
    held_out : (architecture, optimizer) of the runs that are projected; their seed is a new one
    epochs, n_checkpoints : length of each training, and how many models each run gives
    n_components : coordinates to compute
    """

    architectures: tuple[str, ...] = ("linear", "mlp", "cnn", "attention")
    optimizers: tuple[str, ...] = ("nesterov", "adam")
    seeds: int = 3
    held_out: tuple[tuple[str, str], ...] = (("cnn", "nesterov"), ("attention", "adam"))
    epochs: int = 30
    n_checkpoints: int = 20
    n_components: int = 50

    @property
    def sweep(self) -> "Sweep":
        """All runs, the held-out ones last."""
        from collectors.zoo.data import DataSettings
        from collectors.zoo.sweep import Sweep

        embedded = product(self.architectures, self.optimizers, range(self.seeds))
        held_out = [(*pair, self.seeds) for pair in self.held_out]
        trainings = [self._training(*choice) for choice in (*embedded, *held_out)]
        return Sweep("demo", DataSettings("digits"), tuple(trainings))

    def _training(self, architecture: str, optimizer: str, seed: int) -> "Training":
        from collectors.zoo.training import Training

        return Training(
            run=f"{architecture}-{optimizer}-{seed}",
            architecture=architecture,
            optimizer=optimizer,
            lr=_LEARNING_RATES[optimizer][architecture],
            seed=seed,
            epochs=self.epochs,
            lr_schedule="constant",
            checkpoints=self.n_checkpoints,
        )


FULL = Settings()
QUICK = Settings(seeds=1, epochs=5, n_checkpoints=10, n_components=20)


@dataclass(frozen=True)
class Demo:
    """Where everything of one demonstration lies."""

    folder: Path

    @property
    def ensemble(self) -> Path:
        return self.folder / "digits.ensemble"

    @property
    def page(self) -> Path:
        return self.folder / "digits.html"

    @property
    def settings(self) -> Path:
        return self.folder / "demo.json"

    def figure(self, name: str) -> Path:
        return self.folder / f"{name}.png"

    @property
    def pictures(self) -> list[Path]:
        return [self.page, *map(self.figure, FIGURES)]


def run_demo(
    output: str | os.PathLike[str] = "demo-output",
    *,
    settings: Settings = FULL,
    workers: int | None = None,
    restart: bool = False,
    progress: ProgressArgument = True,
) -> list[str]:
    """Train, record, measure, embed, project, draw; return the lines of a short table.

    Parameters
    ----------
    output : the folder for everything; made if there is none
    settings : what to train, `FULL` or `QUICK`
    workers : training processes; one for each core by default
    restart : remove what a former call left in `output`, then begin again
    progress : None, True for bars on standard error, or a callable (done, total, text)

    Raises
    ------
    InputError
        If `output` holds a demonstration with other settings, or something else; if a package
        that the demonstration needs is not installed.
    """
    _require_packages()
    from collectors.zoo.pool import run_sweep
    from collectors.zoo.states import states
    from inpca import open_ensemble

    demo = Demo(Path(output))
    _claim(demo, settings, restart)
    sweep = settings.sweep
    n_train = len(sweep.load_data().sets["train"].y)
    there = set(states(sweep.trainings, demo.ensemble, n_train).values())
    if demo.ensemble.exists() and there != {"done"}:
        _forget_results(demo)
    run_sweep(sweep, demo.ensemble, workers=workers, progress=progress)
    everything = open_ensemble(demo.ensemble)
    models = everything.select(f"seed < {settings.seeds}").with_references()
    held_out = everything.select(f"seed >= {settings.seeds}")
    embedding = _embed(models, settings.n_components, progress)
    distances, projected = _project(embedding, held_out, models, progress)
    _draw(demo, embedding, models, held_out, projected, progress)
    return [
        *_summary(embedding, models),
        *_errors_by_architecture(models),
        *_projection_quality(embedding, held_out, distances, projected),
        "",
        f"Page:    {demo.page.resolve()}",
        f"Figures: {', '.join(path.name for path in demo.pictures[1:])} beside it",
    ]


def _require_packages() -> None:
    missing = [name for name in ("torch", "matplotlib", "plotly") if find_spec(name) is None]
    if missing:
        raise InputError(
            f"The demo needs {', '.join(missing)}, not installed here: pip install 'inpca[demo]'."
        )


# --- the folder ------------------------------------------------------------------------------


def _claim(demo: Demo, settings: Settings, restart: bool) -> None:
    """Make the folder ours, or refuse it; the settings lie in it from the first moment."""
    from inpca.durable import write_bytes

    record = json.dumps(asdict(settings), indent=2).encode()
    if demo.settings.is_file():
        if restart:
            _remove(demo)
        elif demo.settings.read_bytes() == record:
            return
        else:
            raise InputError(
                f"`output` {demo.folder} holds a demo with other settings (see {demo.settings}); "
                "choose another folder (--output), or begin again (--restart)."
            )
    elif demo.folder.exists() and not (demo.folder.is_dir() and _is_empty(demo.folder)):
        raise InputError(
            f"`output` {demo.folder} is neither empty nor a former demo; choose another (--output)."
        )
    demo.folder.mkdir(parents=True, exist_ok=True)
    write_bytes(demo.settings, record)


def _is_empty(folder: Path) -> bool:
    return not any(folder.iterdir())


def _remove(demo: Demo) -> None:
    """Remove what a demo writes, and nothing else that may lie in its folder."""
    for path in demo.pictures:
        path.unlink(missing_ok=True)
    if demo.ensemble.exists():
        shutil.rmtree(demo.ensemble)


def _forget_results(demo: Demo) -> None:
    """Remove what was computed from runs that are about to be trained anew."""
    from inpca import open_ensemble

    ensemble = open_ensemble(demo.ensemble)
    for path in (ensemble.distances_path("train"), ensemble.embeddings_path("train")):
        if path.exists():
            shutil.rmtree(path)
    for path in demo.pictures:
        path.unlink(missing_ok=True)


# --- the steps -------------------------------------------------------------------------------


def _embed(models: "Ensemble", n_components: int, progress: ProgressArgument) -> "InPCA":
    """Distances to the ensemble's distances/train.zarr, then the embedding beside it."""
    from inpca import InPCA, load_embedding, pairwise_distances

    path = models.embeddings_path("train")
    if path.exists():
        loaded: InPCA = load_embedding(path)
        return loaded
    matrix = pairwise_distances(
        models, sample_set="train", out=models.distances_path("train"), progress=progress
    )
    embedding = InPCA(n_components=n_components, metric="precomputed", progress=progress)
    embedding.fit(matrix)
    embedding.save(path)
    return embedding


def _project(
    embedding: "InPCA", held_out: "Ensemble", models: "Ensemble", progress: ProgressArgument
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distances (k, m) of the held-out models to the embedded ones, and coordinates (k, d)."""
    from inpca import pairwise_distances

    distances = np.asarray(
        pairwise_distances(held_out, models, sample_set="train", progress=progress)
    )
    return distances, embedding.transform(distances)


def _draw(
    demo: Demo,
    embedding: "InPCA",
    models: "Ensemble",
    held_out: "Ensemble",
    projected: NDArray[np.float64],
    progress: ProgressArgument,
) -> None:
    """The page and the figures, those that are not there yet."""
    from inpca.plotting.page import interactive_page
    from inpca.plotting.report import save_figure

    table = models.models
    extra: dict[str, Any] = {"projected": projected, "projected_models": held_out.models}
    missing = [path for path in demo.pictures if not path.exists()]
    with reporting(progress, "draw") as report:
        for done, path in enumerate(missing):
            report(done, len(missing), path.name)
            if path == demo.page:
                interactive_page(path, embedding, table, title=_TITLE, **extra)
            else:
                save_figure(FIGURES[path.stem], path, embedding, table, **extra)
        report(len(missing), len(missing), "")


# --- the table -------------------------------------------------------------------------------


def _summary(embedding: "InPCA", models: "Ensemble") -> list[str]:
    from inpca.plotting.style import percent

    kept = len(embedding.signature_)
    ranks = [rank for rank in STRESS_RANKS if rank <= kept]
    values = np.asarray(embedding.eigenvalues_)
    signs = " ".join("0" if value == 0 else "+" if value > 0 else "−" for value in values[:10])
    n_time_like = int((values < 0).sum())

    def row(values: NDArray[np.float64]) -> str:
        return "  ".join(f"{rank}: {percent(values[rank - 1])}" for rank in ranks)

    return [
        f"Models embedded                 {len(models.models)} (with ignorance and truth), "
        f"{len(models.runs)} runs",
        f"Explained stress, Eq. 8         {row(embedding.explained_stress_)}",
        f"Explained stress, root          {row(embedding.explained_stress_root_)}",
        f"Signature of the first axes     {signs}   ({n_time_like} of {kept} time-like)",
    ]


def _errors_by_architecture(models: "Ensemble") -> list[str]:
    """Final errors of each architecture, the mean over its runs."""
    table = models.models
    last = table[table["kind"] != "reference"].groupby("run").tail(1)
    means = last.groupby("architecture", sort=False)[["train_error", "test_error"]].mean()
    rows = [
        f"  {name:<12}{100 * row.train_error:>8.2f} %{100 * row.test_error:>8.2f} %"
        for name, row in means.iterrows()
    ]
    return ["", f"  {'final error':<12}{'train':>10}{'test':>10}", *rows]


def _projection_quality(
    embedding: "InPCA",
    held_out: "Ensemble",
    distances: NDArray[np.float64],
    projected: NDArray[np.float64],
) -> list[str]:
    """How well the coordinates of projected models give back their distances."""
    fitted, signature = embedding.embedding_, np.asarray(embedding.signature_, dtype=np.float64)
    lines = []
    for n_axes in [rank for rank in (3, 10, len(signature)) if rank <= len(signature)]:
        w, u, signs = projected[:, :n_axes], fitted[:, :n_axes], signature[:n_axes]
        squares = (w**2 @ signs)[:, None] + (u**2 @ signs)[None] - 2 * (w * signs) @ u.T
        error = np.abs(squares - distances).mean() / distances.mean()
        lines.append(f"  with {n_axes:>2} axes {100 * error:>6.1f} % off on average")
    runs = ", ".join(held_out.runs)
    head = f"{len(held_out.models)} models of runs held out ({runs}); their distances to the others"
    return ["", head, *lines]


# --- the verb --------------------------------------------------------------------------------


def register(app: typer.Typer) -> None:
    """Add the verb `demo` to the command line."""

    @app.command()
    def demo(
        output: Annotated[
            Path, typer.Option("--output", "-o", help="the folder for everything")
        ] = Path("demo-output"),
        quick: Annotated[bool, typer.Option("--quick", help="80 models instead of 480")] = False,
        workers: Annotated[
            int, typer.Option("--workers", "-w", help="training processes; 0: one for each core")
        ] = 0,
        restart: Annotated[
            bool, typer.Option("--restart", help="remove what a former call left, begin again")
        ] = False,
        quiet: Annotated[
            bool, typer.Option("--quiet", "-q", help="no progress on standard error")
        ] = False,
    ) -> None:
        """Train a small ensemble on real digits, embed it, draw it; needs the extra `demo`."""
        lines = run_demo(
            output,
            settings=QUICK if quick else FULL,
            workers=workers or None,
            restart=restart,
            progress=not quiet,
        )
        say("\n".join(lines))
