"""Import predictions that other programs saved; `collectors.formats` says what files must hold."""

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from collectors.formats import ArchivedRun, check_labels, complete_names, open_archive, read_labels
from inpca.cli.services import say
from inpca.errors import InputError
from inpca.reporting import ProgressArgument, reporting

if TYPE_CHECKING:
    from inpca.store.ensemble import Ensemble

PathLike = str | os.PathLike[str]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class _Import:
    """What all the files of one import have in common.

    Attributes
    ----------
    files : path of each run's file
    kind, sample_set, names : how the files are read
    labels : (N,) of every sample set of the ensemble, existing or to be made
    n_classes : C
    """

    files: dict[str, Path]
    kind: str
    sample_set: str
    names: Mapping[str, str]
    labels: Mapping[str, Labels]
    n_classes: int
    allow_pickle: bool

    def open(self, run: str) -> AbstractContextManager[ArchivedRun]:
        """The file of a run."""
        return open_archive(
            self.files[run], self.sample_set, self.names, allow_pickle=self.allow_pickle
        )


def import_arrays(
    files: PathLike | Iterable[PathLike],
    ensemble: PathLike,
    *,
    kind: str = "probs",
    sample_set: str = "train",
    run: str | None = None,
    config: Mapping[str, Any] | None = None,
    labels: PathLike | None = None,
    names: Mapping[str, str] | None = None,
    allow_pickle: bool = False,
    restart: bool = False,
    progress: ProgressArgument = None,
) -> list[str]:
    """Import each file as one run of `ensemble`; nothing is written unless all files are good.

    Memory: one checkpoint of each sample set; one whole file for ``.npz``.

    Parameters
    ----------
    files : one file or several; `collectors.formats` says what they hold
    ensemble : the directory of the ensemble; created where there is none
    kind : what the numbers are: ``"probs"``, ``"log_probs"``, ``"logits"``, ``"sqrt_probs"``
    sample_set : the set that arrays at the top of a file belong to
    run : the id of the run, where there is one file; by default the file's name without ending
    config : columns of the models table for these runs
    labels : a ``.npy`` file with the labels, where the files hold none
    names : what the files call their arrays: ``{"predictions": "p", "labels": "y"}``
    allow_pickle : load torch files that hold more than data, and so run any program in them; see
        `collectors.torch_files`
    restart : replace runs that exist
    progress : None, True for a bar on standard error, or a callable (done, total, text)

    Returns
    -------
    the ids of the runs

    Raises
    ------
    InputError
        For a file that cannot be read or lacks an array, predictions that are none, another
        number of samples or classes or another order than the ensemble has, a run that exists.
    """
    from inpca.predictions import check_kind

    check_kind(kind)
    words = complete_names(names)
    paths = _paths_by_run(files, run)
    target = _existing(Path(ensemble))
    extra = None if labels is None else read_labels(Path(labels))
    if target is not None:
        _check_runs_are_new(target, list(paths), restart)
        known = _labels_of_ensemble(target, sample_set, extra)
        job = _Import(paths, kind, sample_set, words, known, target.n_classes, allow_pickle)
    else:
        file = next(iter(paths.values()))
        with open_archive(file, sample_set, words, allow_pickle=allow_pickle) as first:
            known = _labels_of_file(first, sample_set, extra)
            if extra is not None and sample_set in known:
                shape = first.predictions[sample_set].shape[1:]
                check_labels(extra, shape, f"`labels` (--labels) in {labels}")
            n_classes = next(iter(first.predictions.values())).shape[-1]
        job = _Import(paths, kind, sample_set, words, known, n_classes, allow_pickle)
    checked = _check_words(paths, config, job)
    with reporting(progress, "import") as report:
        for done, run_id in enumerate(paths):
            report(done, 2 * len(paths), f"checking {run_id}")
            _check_file(job, run_id)
        target = target or _create(Path(ensemble), job)
        for done, run_id in enumerate(paths, start=len(paths)):
            report(done, 2 * len(paths), f"writing {run_id}")
            _write_run(job, run_id, target, checked, restart)
        report(2 * len(paths), 2 * len(paths), "")
    return list(paths)


def _check_file(job: _Import, run: str) -> None:
    """Read a whole file once, so that a bad checkpoint is found before anything is written."""
    with job.open(run) as archive:
        _check_archive(archive, job)
        if job.kind == "logits":
            _warn_of_probabilities(archive)
        for _ in _checkpoints(archive, job):
            pass


def _write_run(
    job: _Import, run: str, target: "Ensemble", config: dict[str, Any], restart: bool
) -> None:
    with (
        job.open(run) as archive,
        target.start_run(run, config=config, restart=restart) as writer,
    ):
        for k, values in enumerate(_checkpoints(archive, job)):
            step, epoch = int(archive.step[k]), float(archive.epoch[k])
            writer.append(values, kind="log_probs", step=step, epoch=epoch)


def _checkpoints(archive: ArchivedRun, job: _Import) -> Iterator[dict[str, NDArray[np.floating]]]:
    """Log-probabilities of one checkpoint after the other, each validated."""
    from inpca.predictions import to_log_probs

    for k in range(archive.n_checkpoints):
        values = {}
        for name in archive.predictions:
            where = f"{archive.path}: {name}, checkpoint {k}"
            values[name] = to_log_probs(archive.read(name, k), job.kind, name=where)  # type: ignore[arg-type]
        yield values


def _create(path: Path, job: _Import) -> "Ensemble":
    from inpca import create_ensemble

    return create_ensemble(path, sample_sets=job.labels, n_classes=job.n_classes, exist_ok=True)


# --- checking --------------------------------------------------------------------------------


def _paths_by_run(files: PathLike | Iterable[PathLike], run: str | None) -> dict[str, Path]:
    single = isinstance(files, str | os.PathLike)
    paths = [Path(files)] if single else [Path(file) for file in files]  # type: ignore[arg-type, union-attr]
    if not paths:
        raise InputError("`files` must name at least one file.")
    if run is not None and len(paths) > 1:
        raise InputError(
            f"`run` names one run but there are {len(paths)} files; leave it out, and each run is "
            "called by its file's name."
        )
    named: dict[str, Path] = {}
    for path in paths:
        if (other := named.setdefault(run or path.stem, path)) is not path:
            raise InputError(
                f"{other} and {path} would both become the run {path.stem!r}, which is called by "
                "the file's name; rename one, or import it by itself with run= (--run)."
            )
    return named


def _check_words(
    runs: Iterable[str], config: Mapping[str, Any] | None, job: _Import
) -> dict[str, Any]:
    """Refuse bad ids and columns now: once a file has been written is too late."""
    from inpca.store.schema import check_config, check_new_run_id, check_run_id

    ids = [check_run_id(run, "`run` (--run; by default the file's name)") for run in runs]
    for run in ids:
        check_new_run_id(run, ids)
    return check_config(config, job.labels)


def _existing(path: Path) -> "Ensemble | None":
    from inpca import open_ensemble

    return open_ensemble(path) if path.exists() else None


def _labels_of_ensemble(
    target: "Ensemble", sample_set: str, extra: Labels | None
) -> dict[str, Labels]:
    known = {name: samples.labels for name, samples in target.sample_sets.items()}
    if extra is not None and sample_set in known:
        _check_order(f"`labels` of set {sample_set!r}", extra, known[sample_set])
    return known


def _labels_of_file(first: ArchivedRun, sample_set: str, extra: Labels | None) -> dict[str, Labels]:
    found = dict(first.labels) | ({} if extra is None else {sample_set: extra})
    for name in first.predictions:
        if name not in found:
            raise InputError(
                f"{first.path} has no labels of sample set {name!r}, and there is no ensemble yet "
                "that would have them; pass labels=FILE.npy (--labels FILE.npy), or create the "
                "ensemble first."
            )
    return {name: found[name] for name in first.predictions}


def _check_archive(archive: ArchivedRun, job: _Import) -> None:
    unknown = sorted(set(archive.predictions) - set(job.labels))
    if unknown:
        raise InputError(
            f"{archive.path} has predictions for sample set {unknown[0]!r} but the ensemble has "
            f"{', '.join(sorted(job.labels))} (sample_set=, --sample-set, says which set the top "
            "of a file is)."
        )
    # Sizes before labels: other classes or samples are no matter of their order.
    for name, values in archive.predictions.items():
        if values.shape[1:] != (len(job.labels[name]), job.n_classes):
            raise InputError(
                f"{archive.path} has {values.shape[1]:,} samples × {values.shape[2]} classes in "
                f"set {name!r} but the ensemble has {len(job.labels[name]):,} × {job.n_classes}; "
                "import it into an ensemble of its own."
            )
    for name, labels in archive.labels.items():
        _check_order(f"The labels of set {name!r} in {archive.path}", labels, job.labels[name])


def _warn_of_probabilities(archive: ArchivedRun) -> None:
    """Logits that are all probabilities are no accident; the first checkpoint tells."""
    for name in archive.predictions:
        rows = archive.read(name, 0).astype(np.float64)
        if (rows >= 0).all() and np.allclose(rows.sum(axis=-1), 1, atol=1e-3):
            warnings.warn(
                f"{archive.path}: every row of set {name!r} is ≥ 0 and sums to 1, so these look "
                "like probabilities, but are imported as logits; did you mean kind='probs' "
                "(--kind probs)?",
                stacklevel=2,
            )


def _check_order(what: str, labels: Labels, expected: Labels) -> None:
    from inpca.store.samples import difference_of_labels

    if len(labels) != len(expected):
        raise InputError(
            f"{what} are {len(labels):,} but the ensemble has {len(expected):,} samples there; "
            "import the samples of the ensemble, or into an ensemble of their own."
        )
    if not np.array_equal(labels, expected):
        raise InputError(
            f"{what} are not those of the ensemble: {difference_of_labels(labels, expected)}; put "
            "them in the ensemble's order, or import them into an ensemble of their own."
        )


def _check_runs_are_new(target: "Ensemble", runs: list[str], restart: bool) -> None:
    from inpca.store.schema import check_new_run_id

    there = set(target.runs)
    for run in set(runs) - there:
        check_new_run_id(run, there)
    taken = [] if restart else sorted(set(runs) & there)
    if taken:
        raise InputError(
            f"Run {taken[0]!r} exists already in {target.path}; import it under another id (run=, "
            "--run), or replace it with restart=True (--restart)."
        )


# --- the verb --------------------------------------------------------------------------------


def pairs(words: Iterable[str], option: str) -> dict[str, str]:
    """``["lr=0.1", …]`` as a dictionary; refuse a word without ``=``."""
    split = [word.partition("=") for word in words]
    for key, equals, _ in split:
        if not (key and equals):
            raise InputError(f"`{option}` takes key=value, not {key!r}.")
    return {key: value for key, _, value in split}


def plain_value(text: str) -> Any:
    """A configuration's value: truth value, whole number, number or text, in that order.

    >>> [plain_value(text) for text in ("true", "3", "1e-3", "sgd")]
    [True, 3, 0.001, 'sgd']
    """
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:  # not this one: the next, or text
            continue
    return text


AllowPickle = Annotated[
    bool,
    typer.Option(
        "--allow-pickle",
        help="load torch files that hold more than data: this runs any program in them, so only "
        "for files whose maker you trust",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the verb `import` to the command line."""

    @app.command("import")
    def import_(
        files: Annotated[
            list[Path], typer.Argument(metavar="FILE…", help=".npz, .npy, .h5, .pt: one run each")
        ],
        ensemble: Annotated[
            Path, typer.Argument(help="the ensemble's folder; created if there is none")
        ],
        kind: Annotated[str, typer.Option(help="probs, log_probs, logits or sqrt_probs")] = "probs",
        sample_set: Annotated[
            str, typer.Option("--sample-set", "-s", help="the set that a file's arrays belong to")
        ] = "train",
        run: Annotated[str, typer.Option(help="id of the run; default: the file's name")] = "",
        config: Annotated[
            list[str] | None, typer.Option("--config", "-c", help="key=value, a column; repeatable")
        ] = None,
        labels: Annotated[
            Path | None, typer.Option(help=".npy with the labels, where the files have none")
        ] = None,
        name: Annotated[
            list[str] | None,
            typer.Option(help="what the file calls an array: predictions=p, labels=y; repeatable"),
        ] = None,
        allow_pickle: AllowPickle = False,
        restart: Annotated[bool, typer.Option("--restart", help="replace runs that exist")] = False,
        quiet: Annotated[
            bool, typer.Option("--quiet", "-q", help="no progress on standard error")
        ] = False,
    ) -> None:
        """Import predictions from files into an ensemble, one run from each file."""
        settings = pairs(config or [], "--config")
        runs = import_arrays(
            files,
            ensemble,
            kind=kind,
            sample_set=sample_set,
            run=run or None,
            config={key: plain_value(value) for key, value in settings.items()},
            labels=labels,
            names=pairs(name or [], "--name"),
            allow_pickle=allow_pickle,
            restart=restart,
            progress=not quiet,
        )
        for run_id in runs:
            say(run_id)
