"""The inversion of the runs of an ensemble: what they recorded, and what they left out."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import inpca
from inpca.cli import app
from inpca.errors import InputError
from inpca.geometry.inversion_runs import invert_runs, pruned_note
from inpca.plotting.inversion import plot_dynamics

CURVE = np.abs(np.arange(12) - 5.0)


@pytest.fixture
def add(tmp_path):
    """Adds a run that inverts at checkpoint 5, and gives the ensemble."""
    path = tmp_path / "e"
    inpca.create_ensemble(path, sample_sets={"train": [0, 1]}, n_classes=2)

    def added(run, suffix="", **config):
        observables = {f"train/{name}{suffix}": CURVE for name in ("radius_plus", "radius_minus")}
        predictions = {"train": np.full((12, 2, 2), 0.5)}
        inpca.open_ensemble(path).add_run(
            run, predictions, config=config or None, observables=observables
        )
        return inpca.open_ensemble(path)

    return added


def test_pruned_runs__have_a_note_and_an_axis_that_say_what_their_error_counts(add):
    whole = invert_runs(add("a", keep="all", keep_digest=None))
    assert pruned_note(whole) == ""
    assert "training error" in plot_dynamics(whole).axes[1].get_xlabel()
    ensemble = add("b", keep="without", keep_digest="0123abcd")
    runs = invert_runs(ensemble)
    assert [one.pruned for one in runs] == [False, True]
    assert pruned_note(runs).startswith("1 of 2 runs left samples out (`keep`)")
    assert plot_dynamics(runs).axes[1].get_xlabel() == "error on all samples recorded"
    done = CliRunner().invoke(app, ["inversion", str(ensemble.path), "--json"])
    assert pruned_note(runs) in done.stderr
    assert len(json.loads(done.stdout)["runs"]) == 2


def test_layer__of_the_configuration_is_a_name_of_the_only_one_recorded(add):
    ensemble = add("a", layer="2")
    assert invert_runs(ensemble, layer="2")[0].inversion.epoch == 5
    with pytest.raises(InputError, match="run 'a' recorded only '2', not '3'"):
        invert_runs(ensemble, layer="3")
    with pytest.raises(InputError, match="without a name of its own"):
        invert_runs(add("b").select("run == 'b'"), layer="2")


def test_layer__that_the_store_names_is_the_name(add):
    (run,) = invert_runs(add("a", suffix=".3", layer="hidden"), layer="3")
    assert run.verdict == "inversion"


def test_runs_without_a_layer__say_how_to_record_one(tmp_path):
    ensemble = inpca.create_ensemble(tmp_path / "e", sample_sets={"train": [0, 1]}, n_classes=2)
    ensemble.add_run("a", {"train": np.full((3, 2, 2), 0.5)})
    with pytest.raises(InputError, match=r"column `layer` of a sweep, or .*HiddenRecorder"):
        invert_runs(inpca.open_ensemble(tmp_path / "e"))
