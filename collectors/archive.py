"""Import predictions that other programs saved; `collectors.formats` says what files must hold."""

import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from collectors.formats import ArchivedRun, check_labels, complete_names, open_archive, read_labels
from collectors.steps import differ_by_a_number, ordered
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
    kind, sample_set, names, allow_pickle : how the files are read
    check_logits : see `import_arrays`
    labels : (N,) of every sample set of the ensemble, existing or to be made
    n_classes : C
    """

    kind: str
    sample_set: str
    names: Mapping[str, str]
    allow_pickle: bool
    check_logits: bool
    labels: Mapping[str, Labels]
    n_classes: int

    def open(self, file: Path) -> AbstractContextManager[ArchivedRun]:
        """A file of a run."""
        return open_archive(file, self.sample_set, self.names, allow_pickle=self.allow_pickle)


@dataclass(frozen=True)
class _Part:
    """A file of a run, and its step, where its name tells it and the file does not."""

    file: Path
    step: int | None = None


# Run → its files, in the order of their steps.
_Parts = dict[str, list[_Part]]


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
    as_run: str | None = None,
    check_logits: bool = True,
    allow_pickle: bool = False,
    restart: bool = False,
    progress: ProgressArgument = None,
) -> list[str]:
    """Import each file as one run of `ensemble`, or all as one; nothing unless all are good.

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
    as_run : the id of the one run that all files are checkpoints of, in the order of the steps that
        they hold; where they hold none and one checkpoint each, of the steps that their names tell
        (see `collectors.steps`)
    check_logits : refuse logits that are all 0, or are probabilities
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
        number of samples or classes or another order than the ensemble has, a run that exists;
        for files of one run that tell no steps, or the same ones.
    """
    from inpca.predictions import check_kind

    check_kind(kind)
    words = complete_names(names)
    how = (kind, sample_set, words, allow_pickle, check_logits)
    runs = _files_by_run(files, run, as_run)
    target = _existing(Path(ensemble))
    extra = None if labels is None else read_labels(Path(labels))
    if target is not None:
        _check_runs_are_new(target, list(runs), restart)
        known = _labels_of_ensemble(target, sample_set, extra)
        job = _Import(*how, known, target.n_classes)
    else:
        file = next(iter(runs.values()))[0]
        with open_archive(file, sample_set, words, allow_pickle=allow_pickle) as first:
            known = _labels_of_file(first, sample_set, extra)
            if extra is not None and sample_set in known:
                shape = first.predictions[sample_set].shape[1:]
                check_labels(extra, shape, f"`labels` (--labels) in {labels}")
            n_classes = next(iter(first.predictions.values())).shape[-1]
        job = _Import(*how, known, n_classes)
    checked = _check_words(runs, config, job)
    parts: _Parts = {
        one: [_Part(file) for file in files] if as_run is None else _in_order(job, files)
        for one, files in runs.items()
    }
    n_files = sum(map(len, parts.values()))
    with reporting(progress, "import") as report:
        done = 0
        for run_id, own in parts.items():
            for part in own:
                report(done, 2 * n_files, f"checking {run_id}")
                _check_file(job, part.file)
                done += 1
        target = target or _create(Path(ensemble), job)
        for run_id, own in parts.items():
            report(done, 2 * n_files, f"writing {run_id}")
            _write_run(job, run_id, own, target, checked, restart)
            done += len(own)
        report(done, 2 * n_files, "")
    return list(parts)


def _check_file(job: _Import, file: Path) -> None:
    """Read a whole file once, so that a bad checkpoint is found before anything is written."""
    with job.open(file) as archive:
        _check_archive(archive, job)
        for _ in _checkpoints(archive, job):
            pass


def _write_run(
    job: _Import,
    run: str,
    parts: list[_Part],
    target: "Ensemble",
    config: dict[str, Any],
    restart: bool,
) -> None:
    with target.start_run(run, config=config, restart=restart) as writer:
        for part in parts:
            with job.open(part.file) as archive:
                for k, values in enumerate(_checkpoints(archive, job)):
                    step = int(archive.step[k]) if part.step is None else part.step
                    writer.append(
                        values, kind="log_probs", step=step, epoch=float(archive.epoch[k])
                    )


def _checkpoints(archive: ArchivedRun, job: _Import) -> Iterator[dict[str, NDArray[np.floating]]]:
    """Log-probabilities of one checkpoint after the other, each validated."""
    from inpca.logits import check_filled
    from inpca.predictions import to_log_probs

    for k in range(archive.n_checkpoints):
        values = {}
        for name in archive.predictions:
            where = f"{archive.path}: {name}, checkpoint {k}"
            predictions = archive.read(name, k)
            if job.kind == "logits" and job.check_logits:
                check_filled(predictions, where)
            values[name] = to_log_probs(
                predictions,
                job.kind,  # type: ignore[arg-type]
                name=where,
                known_logits=not job.check_logits,
            )
        yield values


def _create(path: Path, job: _Import) -> "Ensemble":
    from inpca import create_ensemble

    return create_ensemble(path, sample_sets=job.labels, n_classes=job.n_classes, exist_ok=True)


# --- checking --------------------------------------------------------------------------------


def _files_by_run(
    files: PathLike | Iterable[PathLike], run: str | None, as_run: str | None
) -> dict[str, list[Path]]:
    single = isinstance(files, str | os.PathLike)
    paths = [Path(files)] if single else [Path(file) for file in files]  # type: ignore[arg-type, union-attr]
    if not paths:
        raise InputError("`files` must name at least one file.")
    if as_run is not None:
        if run is not None:
            raise InputError("`run` and `as_run` (--run, --as-run) both name the run; give one.")
        if len(set(paths)) < len(paths):
            raise InputError("`files` must name each file of a run once, but names one twice.")
        return {as_run: paths}
    if run is not None and len(paths) > 1:
        raise InputError(
            f"`run` names one run but there are {len(paths)} files; leave it out, and each run is "
            "called by its file's name, or, where they are checkpoints of one run, name it by "
            "as_run= (--as-run)."
        )
    named: dict[str, list[Path]] = {}
    for path in paths:
        if (other := named.setdefault(run or path.stem, [path])[0]) is not path:
            raise InputError(
                f"{other} and {path} would both become the run {path.stem!r}, which is called by "
                "the file's name; rename one, or import it by itself with run= (--run)."
            )
    return named


def _in_order(job: _Import, files: list[Path]) -> list[_Part]:
    """The files of one run by their steps, which they hold or their names tell.

    Raises
    ------
    InputError
        If that leaves the order open: some tell steps and others do not, or two have the same.
    """
    spans: dict[Path, tuple[int, int]] = {}
    epochs: dict[Path, float] = {}
    counted = []
    for file in files:
        with job.open(file) as archive:
            spans[file] = int(archive.step[0]), int(archive.step[-1])
            epochs[file] = float(archive.epoch[0])
            if not archive.tells_steps:
                counted.append(file)
                _refuse_uncounted(archive)
    if counted and len(counted) < len(spans):
        other = next(file for file in spans if file not in counted)
        raise InputError(
            f"{other} holds steps and {counted[0]} does not, so they have no order; write the "
            "steps into all files of the run."
        )
    if counted:
        by_name = ordered(files)
        _refuse_other_order(by_name, epochs)
        return [_Part(file, step) for step, file in by_name.items()]
    in_order = sorted(spans, key=lambda file: spans[file])
    for one, after in pairwise(in_order):
        if spans[one][1] >= spans[after][0]:
            raise InputError(
                f"{one} ends at step {spans[one][1]} and {after} begins at step "
                f"{spans[after][0]}, so they are no parts of one run, one after the other; import "
                "them as runs of their own."
            )
    return [_Part(file) for file in in_order]


def _refuse_other_order(by_name: Mapping[int, Path], epochs: Mapping[Path, float]) -> None:
    """Refuse an order of names that the epochs in the files contradict."""
    known = [(step, file) for step, file in by_name.items() if epochs[file] == epochs[file]]
    for (step, one), (later, after) in pairwise(known):
        if epochs[one] > epochs[after]:
            raise InputError(
                f"{after} tells epoch {epochs[after]:g} and {one} tells {epochs[one]:g}, but their "
                f"names tell steps {later} and {step}, the other way round; correct the names, or "
                "write the steps into the files."
            )


def _refuse_uncounted(archive: ArchivedRun) -> None:
    if archive.n_checkpoints > 1:
        raise InputError(
            f"{archive.path} holds {archive.n_checkpoints} checkpoints without steps, so it cannot "
            "be put in order among the other files of the run; write the steps into the file."
        )


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


# What is a number in a configuration: 3, -1, 0.5, 1e-3; not 007, 1_000, or digits of other scripts.
_WHOLE = re.compile(r"[+-]?(?:0|[1-9][0-9]*)")
_DECIMAL = re.compile(
    r"[+-]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:e[+-]?[0-9]+)?|[+-]?(?:inf|infinity|nan)",
    re.IGNORECASE,
)


def plain_value(text: str) -> Any:
    """A configuration's value: truth value, whole number, number or text, in that order.

    Text stays text where a number would lose what was written: ``007``, ``1_000``, digits of
    another script, a number beyond the range of float64.

    >>> [plain_value(text) for text in ("true", "3", "1e-3", "sgd", "007")]
    [True, 3, 0.001, 'sgd', '007']
    """
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if _WHOLE.fullmatch(text):
        try:
            return int(text)
        except ValueError:  # thousands of digits
            return text
    if _DECIMAL.fullmatch(text):
        number = float(text)
        beyond = math.isinf(number) and any(map(str.isdigit, text))
        return text if beyond else number
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
        as_run: Annotated[
            str,
            typer.Option("--as-run", help="id of the one run that all files are checkpoints of"),
        ] = "",
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
        check_logits: Annotated[
            bool, typer.Option(help="refuse logits that are all 0, or are probabilities")
        ] = True,
        allow_pickle: AllowPickle = False,
        restart: Annotated[bool, typer.Option("--restart", help="replace runs that exist")] = False,
        quiet: Annotated[
            bool, typer.Option("--quiet", "-q", help="no progress on standard error")
        ] = False,
    ) -> None:
        """Import predictions from files into an ensemble, one run from each file or from all."""
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
            as_run=as_run or None,
            check_logits=check_logits,
            allow_pickle=allow_pickle,
            restart=restart,
            progress=not quiet,
        )
        if not (as_run or quiet) and differ_by_a_number(files):
            say(
                f"{len(files)} files whose names differ by a number became {len(runs)} runs; for "
                "checkpoints of one training pass --as-run NAME",
                err=True,
            )
        for run_id in runs:
            say(run_id)
