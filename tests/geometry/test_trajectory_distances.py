"""Distances between trajectories, tubes, and what decides a trajectory."""

import json
import subprocess
import sys

import naive
import numpy as np
import pandas as pd
import pytest
from scipy.integrate import trapezoid
from trainings import LABELS, N_CLASSES, training

import inpca
from inpca.executor import get_executor
from inpca.geometry.equal_progress import distances_at_equal_progress
from inpca.geometry.runs import trajectories
from inpca.geometry.trajectory_distances import trapezoid_weights
from inpca.store.trajectories import open_trajectories
from inpca.summary import check_ensemble
from inpca.trajectories import (
    configuration_importance,
    distances_to_geodesic,
    load_trajectory_distances,
    tube_widths,
)

CONFIGS = [{"architecture": "ab"[n % 2], "seed": n // 2} for n in range(4)]


@pytest.fixture
def runs() -> list[np.ndarray]:
    """Four runs of different lengths: two paths × two seeds."""
    return [training(seed=n, n_checkpoints=6 + n, path=n % 2) for n in range(4)]


@pytest.fixture
def ensemble(tmp_path, runs) -> inpca.Ensemble:
    """The same four runs on disk."""
    made = inpca.create_ensemble(
        tmp_path / "e.ensemble", sample_sets={"train": LABELS}, n_classes=N_CLASSES
    )
    for number, (run, config) in enumerate(zip(runs, CONFIGS)):
        made.add_run(f"run-{number}", {"train": run}, config=config)
    return inpca.open_ensemble(made.path)


# -- Eq. 5 ----------------------------------------------------------------------------------------


def test_distances__are_those_of_the_models_at_equal_progress(runs) -> None:
    found = inpca.trajectory_distances(runs, 5, labels=LABELS)
    assert found.by_s.shape == (4, 4, 5)
    assert np.array_equal(found.s, [0, 0.25, 0.5, 0.75, 1])
    progress = [inpca.progress(run, LABELS) for run in runs]
    for number, s in enumerate(found.s):
        models = np.stack([inpca.reindex(run, at, s) for run, at in zip(runs, progress)])
        expected = naive.distance(naive.log_probs(models))
        assert np.allclose(found.at(number), expected, atol=1e-12)
    assert np.allclose(found.integrated, trapezoid(found.by_s, found.s, axis=-1))


def test_distances__of_a_trajectory_to_itself_are_0(runs) -> None:
    found = inpca.trajectory_distances([*runs, runs[0]], 7, labels=LABELS)
    assert np.array_equal(np.diagonal(found.by_s), np.zeros((7, 5)))
    assert np.array_equal(found.by_s[0, 4], np.zeros(7))
    assert np.array_equal(found.integrated, found.integrated.T)


def test_distances__to_every_other_checkpoint_vanish_as_checkpoints_get_dense() -> None:
    between = []
    for n_checkpoints in (9, 17, 33, 65):
        run = training(0, n_checkpoints)
        d = inpca.trajectory_distances([run, run[::2]], 21, labels=LABELS)
        between.append(d.integrated[0, 1])
    ratios = np.array(between[:-1]) / between[1:]
    assert (ratios > 4).all()  # of squared type, of a chord to its arc: falls with a high power
    assert between[-1] < 1e-6


def test_distances__do_not_depend_on_the_speed_of_a_training(runs) -> None:
    dense = training(0, 200)
    fast = dense[np.unique((np.linspace(0, 1, 200) ** 2 * 199).astype(int))]
    found = inpca.trajectory_distances([dense, fast, runs[1]], 11, labels=LABELS)
    assert found.integrated[0, 1] < 1e-3 * found.integrated[0, 2]


def test_distances__can_be_indexed_by_a_column_or_by_values(ensemble, runs) -> None:
    errors = [ensemble.run(f"run-{n}").column("train_loss") / 2 for n in range(4)]
    by_values = inpca.trajectory_distances(ensemble, [0.1, 0.3], index=errors)
    of_arrays = inpca.trajectory_distances(runs, [0.1, 0.3], index=errors)
    assert np.allclose(by_values.by_s, of_arrays.by_s, atol=1e-6)
    by_column = inpca.trajectory_distances(ensemble, [0.2, 0.6], index="train_loss")
    assert np.allclose(by_column.by_s, by_values.by_s, atol=1e-6)
    assert not by_column.backwards.any()  # it falls, and does so all the time


def test_distances__of_an_ensemble_are_those_of_its_arrays(ensemble, runs) -> None:
    found = inpca.trajectory_distances(ensemble.with_references(), 5)
    expected = inpca.trajectory_distances(runs, 5, labels=LABELS, configs=CONFIGS)
    assert found.runs.index.tolist() == [f"run-{n}" for n in range(4)]
    assert found.runs.reset_index(drop=True).equals(expected.runs.reset_index(drop=True))
    assert np.allclose(found.by_s, expected.by_s, atol=1e-6)


def test_distances__keep_a_run_whose_progress_runs_backwards_and_say_so(runs) -> None:
    back = runs[0][[0, 1, 3, 2, 4, 5]]
    found = inpca.trajectory_distances([runs[0], back, runs[1]], 5, labels=LABELS)
    assert found.backwards.tolist() == [0, 1, 0]
    assert found.outside[0] == found.outside[1] >= 1  # s = 1 is not reached by a training
    assert found.integrated[0, 1] < found.integrated[0, 2]


@pytest.mark.parametrize("metric", ["bhattacharyya", "hellinger2"])
def test_distances__take_any_divergence(runs, metric) -> None:
    found = inpca.trajectory_distances(runs, [0.5], labels=LABELS, metric=metric)
    progress = [inpca.progress(run, LABELS) for run in runs]
    models = np.stack([inpca.reindex(run, at, 0.5) for run, at in zip(runs, progress)])
    assert np.allclose(found.integrated, inpca.pairwise_distances(models, metric=metric))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_runs", [3, 70, 140])
def test_one_pass__agrees_with_one_problem_for_each_value(n_runs, dtype) -> None:
    runs = [training(n, 4 + n % 5, n % 3).astype(dtype) for n in range(n_runs)]
    runs[1] = runs[1][[0, 2, 1, 3]]  # goes back, and jumps over checkpoints
    found = trajectories(runs, [0.9, 0.1, 0.15, 0.5, 1.0], labels=LABELS)
    each = [inpca.pairwise_distances(found.at(number)) for number in range(5)]
    once = {
        workers: distances_at_equal_progress(found, 10**9, get_executor(workers), silent)
        for workers in ("serial", 3)
    }
    assert np.allclose(once["serial"], each, atol=1e-6 if dtype == np.float32 else 1e-13)
    assert np.array_equal(once["serial"], once[3])


def test_one_pass__does_not_depend_on_how_samples_are_cut(runs) -> None:
    wide = [np.tile(run, (1, 40, 1)) for run in runs]  # 1,600 samples: four groups
    found = trajectories(wide, 3, labels=np.tile(LABELS, 40))
    found.base.chunk_samples = 1600  # lie together on disk: read at once, where there is room
    whole = distances_at_equal_progress(found, 10**9, get_executor("serial"), silent)
    tight = distances_at_equal_progress(found, 5_000_000, get_executor("serial"), silent)
    assert np.array_equal(whole, tight)
    with pytest.raises(inpca.ResourceError, match="take fewer workers"):
        distances_at_equal_progress(found, 1_000_000, get_executor("serial"), silent)


def test_one_pass__counts_what_the_floor_caps(caplog) -> None:
    at = np.eye(3)[LABELS], np.eye(3)[(LABELS + 1) % 3]
    runs = [np.stack([np.full((40, 3), 1 / 3), end]) for end in at]
    inpca.trajectory_distances(runs, [0.5, 1.0], index=[[0, 1], [0, 1]])
    assert "40 of 80 contributions" in caplog.text


def silent(done: float, total: float, text: str) -> None:
    """Report nothing."""


def test_weights__are_the_trapezoidal_mean_in_any_order() -> None:
    s = np.array([0.7, 0.1, 0.2, 1.0])
    values = np.array([3.0, 1.0, 5.0, 2.0])
    order = np.argsort(s)
    assert np.isclose(trapezoid_weights(s) @ values, trapezoid(values[order], s[order]) / 0.9)
    assert trapezoid_weights(np.array([0.3])).tolist() == [1.0]


# -- groups, clusters, embedding ------------------------------------------------------------------


def test_grouped__averages_over_the_seeds(runs) -> None:
    found = inpca.trajectory_distances(runs, 5, labels=LABELS, configs=CONFIGS)
    groups = found.grouped()
    d = found.integrated
    assert groups.runs.index.tolist() == ["a", "b"]
    assert groups.runs["n_runs"].tolist() == [2, 2]
    assert np.isclose(groups.integrated[0, 1], d[np.ix_([0, 2], [1, 3])].mean())
    assert np.array_equal(np.diagonal(groups.integrated), [0, 0])
    assert np.allclose(groups.spread, [d[0, 2], d[1, 3]])
    assert np.isnan(found.grouped(["architecture", "seed"]).spread).all()


def test_grouped__puts_a_missing_setting_in_a_group_of_its_own(runs) -> None:
    configs = [{"lr": 0.1}, {"lr": None}, {"lr": 0.1}, {"lr": None}]
    found = inpca.trajectory_distances(runs, 3, labels=LABELS, configs=configs).grouped("lr")
    assert found.runs["n_runs"].tolist() == [2, 2]


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ("optimizer", r"`by` must be columns of the configuration \(seed\), not 'optimizer'"),
        ([], "every run is of the same group"),
    ],
    ids=["unknown", "empty"],
)
def test_grouped__refuses_empty_groups(runs, by, message) -> None:
    configs = [{"seed": n} for n in range(4)]
    found = inpca.trajectory_distances(runs, 3, labels=LABELS, configs=configs)
    with pytest.raises(inpca.InputError, match=message):
        found.grouped(by)


def test_linkage__puts_runs_of_one_path_together_first(runs) -> None:
    found = inpca.trajectory_distances(runs, 5, labels=LABELS)
    tree = found.linkage()
    assert {frozenset(pair) for pair in tree[:2, :2].astype(int).tolist()} == {
        frozenset({0, 2}),
        frozenset({1, 3}),
    }


def test_embed__is_isometric_in_all_coordinates(runs) -> None:
    found = inpca.trajectory_distances(runs, 5, labels=LABELS)
    embedding = found.embed(3)
    x, signature = embedding.embedding_, embedding.signature_
    squares = (signature * (x[:, None] - x) ** 2).sum(axis=-1)
    assert np.allclose(squares, found.integrated, atol=1e-12)


# -- tubes and the geodesic -----------------------------------------------------------------------


def test_tube__is_the_distance_to_the_mean_at_equal_progress(runs) -> None:
    tube = tube_widths(runs, s=[0.3, 0.6], labels=LABELS, configs=CONFIGS)
    progress = [inpca.progress(run, LABELS) for run in runs]
    for number, s in enumerate(tube.s):
        models = [inpca.reindex(run, at, s) for run, at in zip(runs, progress)]
        for group, members in enumerate(([0, 2], [1, 3])):
            pair = np.stack([models[member] for member in members])
            expected = inpca.pairwise_distances(pair, pair.mean(axis=0)[None])[:, 0]
            assert np.allclose(tube.distances[members, number], expected, atol=1e-12)
            assert np.isclose(tube.widths[group, number], expected.mean())
    assert tube.groups["n_runs"].tolist() == [2, 2]
    assert tube.group.tolist() == [0, 1, 0, 1]


def test_tube__of_copies_has_no_width(runs) -> None:
    copies = [runs[0], runs[0]]
    for how in ("arithmetic", "geometric"):
        tube = tube_widths(copies, "a", 3, how=how, labels=LABELS, configs=[{"a": 1}, {"a": 1}])
        assert np.allclose(tube.widths, 0, atol=1e-12)


def test_tube__refuses_an_unknown_average_and_empty_groups(runs) -> None:
    with pytest.raises(inpca.InputError, match="`how` must be one of"):
        tube_widths(runs, how="median", labels=LABELS, configs=CONFIGS)
    with pytest.raises(inpca.InputError, match="must name at least one column"):
        tube_widths(runs, [], labels=LABELS)


def test_geodesic__is_at_distance_0_from_itself_and_far_from_trainings(runs) -> None:
    start = np.full((40, N_CLASSES), 1 / N_CLASSES)
    straight = inpca.geodesic(start, np.eye(N_CLASSES)[LABELS], np.linspace(0, 1, 5))
    found = distances_to_geodesic([straight, *runs], 9, labels=LABELS)
    assert np.allclose(found.distances[0], 0, atol=1e-12)
    assert (found.integrated[1:] > 1e-3).all()
    assert (found.distances[1:, 4] > found.distances[1:, 0]).all()  # they begin at ignorance


def test_geodesic__needs_labels_of_arrays(runs) -> None:
    with pytest.raises(inpca.InputError, match="`labels` must be given with arrays"):
        distances_to_geodesic(runs, 3, index=[np.linspace(0, 1, len(run)) for run in runs])


# -- importance -----------------------------------------------------------------------------------


def test_importance__finds_the_setting_that_decides() -> None:
    rng = np.random.default_rng(0)
    configs = pd.DataFrame({name: rng.integers(0, 3, 24) for name in ("architecture", "lr", "bs")})
    configs["seed"] = range(24)
    x = 3.0 * configs["architecture"].to_numpy() + 0.5 * configs["lr"].to_numpy()
    found = configuration_importance((x[:, None] - x) ** 2, configs, n_repeats=30, n_trees=20)
    assert found.table.index.tolist() == ["architecture", "lr", "bs"]
    assert found.score > 0.9
    assert found.table.loc["architecture", "p_value"] == 1 / 31
    assert found.table.loc["architecture", "p_value_normal"] < 1e-6
    assert found.table.loc["bs", "p_value"] > 1 / 31
    assert found.repeats.shape == (3, 30)


def test_importance__takes_the_distance_to_the_geodesic_as_well() -> None:
    far = np.random.default_rng(0).random(16)
    configs = pd.DataFrame({"lr": np.arange(16) % 2})
    d = np.abs(far[:, None] - far)
    found = configuration_importance(d, configs, to_geodesic=far, n_repeats=5, n_trees=20)
    assert found.table.index[-1] == "lr"


@pytest.mark.parametrize(
    ("configs", "options", "message"),
    [
        (pd.DataFrame({"lr": [1, 1, 1, 1]}), {}, "must differ between trajectories"),
        (pd.DataFrame({"lr": [1, 2, 1, 2]}), {"columns": ["bs"]}, "not 'bs'"),
        (pd.DataFrame({"lr": [1, 2]}), {}, "one row for each of the 4"),
        (None, {}, "`configs` must be given"),
        (pd.DataFrame({"lr": [1, 2, 1, 2]}), {"held_out": 1.0}, "`held_out` must be in"),
        (pd.DataFrame({"lr": [1, 2, 1, 2]}), {"n_repeats": 0}, "`n_repeats` must be at least 1"),
    ],
    ids=["constant", "unknown", "length", "none", "held out", "repeats"],
)
def test_importance__refuses_bad_input(configs, options, message) -> None:
    with pytest.raises(inpca.InputError, match=message):
        configuration_importance(np.ones((4, 4)) - np.eye(4), configs, **options)


# -- on disk --------------------------------------------------------------------------------------


def test_out__holds_the_same_distances_and_is_loaded_again(ensemble, tmp_path) -> None:
    expected = inpca.trajectory_distances(ensemble, 4)
    inpca.trajectory_distances(ensemble, 4, out=tmp_path / "t.zarr")
    found = load_trajectory_distances(tmp_path / "t.zarr")
    assert np.allclose(found.by_s, expected.by_s, atol=1e-7)
    assert np.array_equal(found.outside, expected.outside)
    assert found.runs["architecture"].tolist() == expected.runs["architecture"].tolist()
    assert found.grouped().runs.index.tolist() == ["a", "b"]


def test_out__goes_on_where_a_killed_call_ended(ensemble, tmp_path) -> None:
    def stop(done: float, total: float, text: str) -> None:
        if text.startswith("s 3 of 5"):
            raise KeyboardInterrupt

    out = tmp_path / "t.zarr"
    with pytest.raises(KeyboardInterrupt):
        inpca.trajectory_distances(ensemble, 5, out=out, progress=stop)
    with pytest.raises(inpca.InputError, match=r"not finished: the distances at s = 0\.5"):
        load_trajectory_distances(out)
    first = open_trajectories(out).matrix_path(0) / "distance" / "c.0.0"
    before = first.stat().st_mtime_ns
    inpca.trajectory_distances(ensemble, 5, out=out)
    assert first.stat().st_mtime_ns == before
    assert len(load_trajectory_distances(out).s) == 5


def test_out__refuses_what_was_computed_from_something_else(ensemble, tmp_path) -> None:
    out = tmp_path / "t.zarr"
    inpca.trajectory_distances(ensemble, 3, out=out)
    with pytest.raises(inpca.InputError, match="3 values of s from 0 to 1 instead of 4 values"):
        inpca.trajectory_distances(ensemble, 4, out=out)
    with pytest.raises(inpca.InputError, match="resume=False"):
        inpca.trajectory_distances(ensemble, 3, out=out, resume=False)
    assert len(inpca.trajectory_distances(ensemble, 4, out=out, restart=True).s) == 4
    (tmp_path / "other").mkdir()
    with pytest.raises(inpca.InputError, match="must be trajectory distances"):
        inpca.trajectory_distances(ensemble, 3, out=tmp_path / "other", restart=True)


def test_check__finds_a_damaged_tile(ensemble) -> None:
    out = ensemble.path / "trajectories" / "train.zarr"
    inpca.trajectory_distances(ensemble, 3, out=out)
    assert check_ensemble(ensemble) == []
    tile = out / "0001.zarr" / "distance" / "c.0.0"
    tile.write_bytes(tile.read_bytes()[:-1] + b"x")
    (damage,) = check_ensemble(ensemble)
    assert damage.key == "trajectories/train.zarr/0001.zarr/distance/c.0.0"


# -- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": np.full(40, 3)}, "`labels` must be classes 0 … 2; sample 0 has 3"),
        ({}, "`labels` must be given with arrays"),
        ({"index": "train_loss"}, "column of an ensemble's models table"),
        ({"index": [[0, 1]]}, "one array for each of the 4 runs, not 1"),
        ({"index": [[0, 1]] * 4}, r"`index` of run '0' must have one value per checkpoint, \(6,\)"),
        ({"labels": LABELS, "s": 1}, "`s` must be at least 2 values"),
        ({"labels": LABELS, "s": [0.5, 1.5]}, r"must be in \[0, 1\]"),
        ({"labels": LABELS, "outside": "error"}, "what the progress of run '0' reaches, 0 …"),
        ({"labels": LABELS, "outside": "wrap"}, "`outside` must be one of hold, stretch, error"),
        ({"labels": LABELS, "configs": [{}]}, "one row for each of the 4 runs, not 1"),
        ({"labels": LABELS, "restart": True}, "`restart` needs `out`"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[:30],
)
def test_distances__refuse_bad_input(runs, options, message) -> None:
    with pytest.raises(inpca.InputError, match=message):
        inpca.trajectory_distances(runs, **options)


def test_distances__refuse_runs_that_are_none(ensemble, runs) -> None:
    with pytest.raises(inpca.InputError, match=r"`X\[1\]` has 1 checkpoint"):
        inpca.trajectory_distances([runs[0], runs[1][:1]], labels=LABELS)
    with pytest.raises(inpca.InputError, match="Run 'run-1' has one checkpoint in `X`"):
        inpca.trajectory_distances(ensemble.select("run != 'run-1' or checkpoint == 2"))
    with pytest.raises(inpca.InputError, match="at least 2 runs, not 1"):
        inpca.trajectory_distances(runs[:1], labels=LABELS)
    with pytest.raises(inpca.InputError, match="same samples and classes"):
        inpca.trajectory_distances([runs[0], runs[1][:, :5]], labels=LABELS)
    with pytest.raises(inpca.InputError, match="a column of numbers of the models table"):
        inpca.trajectory_distances(ensemble, index="architecture")
    with pytest.raises(inpca.InputError, match="the ensemble's own"):
        inpca.trajectory_distances(ensemble, labels=LABELS)


def test_distances__refuse_what_does_not_fit(runs) -> None:
    with pytest.raises(inpca.ResourceError, match=r"need .* but `memory` is .*; pass `out`"):
        inpca.trajectory_distances(runs * 10, 1000, labels=LABELS, memory="10MB")


JOB = """
import json, sys
import numpy as np
import inpca
from inpca.trajectories import tube_widths

n_runs, n_checkpoints, n_samples, n_classes = 200, 25, 5000, 10
if sys.argv[2] == "make":
    labels = np.arange(n_samples) % n_classes
    ensemble = inpca.create_ensemble(
        sys.argv[1] + "/e", sample_sets={"train": labels}, n_classes=n_classes
    )
    truth = np.eye(n_classes, dtype=np.float32)[labels]
    for run in range(n_runs):
        rng = np.random.default_rng(run)
        noise = rng.normal(size=(n_samples, n_classes)).astype(np.float32)
        s = np.linspace(0, 1, n_checkpoints, dtype=np.float32)[:, None, None]
        ensemble.add_run(
            f"run-{run:03}", {"train": 8 * s * truth + s * noise}, kind="logits",
            config={"a": run % 20},
        )
    # Compiled here and loaded there: the compiler's own memory is no part of the budget.
    inpca.trajectory_distances(ensemble.select("run < 'run-002'"), 2)
else:
    ensemble = inpca.open_ensemble(sys.argv[1] + "/e")
    inpca.trajectory_distances(ensemble, 5, memory="200MB", out=sys.argv[1] + "/t.zarr")
    tube_widths(ensemble, "a", 3, memory="200MB")
    status = open("/proc/self/status").read()
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
    print(json.dumps({"peak": peak}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_distances__of_an_ensemble_larger_than_the_budget_keep_to_it(tmp_path) -> None:
    """1 GB of predictions under 200 MB, 300 MB for the interpreter and what it imports."""
    for step in ("make", "measure"):
        command = [sys.executable, "-c", JOB, str(tmp_path), step]
        result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    print(result.stdout)
    assert json.loads(result.stdout.splitlines()[-1])["peak"] <= 500_000_000
