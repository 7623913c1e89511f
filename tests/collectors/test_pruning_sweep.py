"""A pruning plan goes through a sweep: trained without the stragglers, the digits do not invert."""

import json

import numpy as np
import pytest

import inpca
from collectors.zoo.pool import run_sweep
from collectors.zoo.sweep import load_sweep
from inpca import InputError
from inpca.geometry.inversion_runs import inversion_table, invert_runs

SWEEP = """
data: {name: digits, labels: parity, standardise: pixels}
common:
  {architecture: tanh-20, optimizer: sgd, lr: 0.2, lr_schedule: constant, batch_size: all,
   epochs: 250, checkpoints: 40, layer: "LAYER"}
grid: {keep: KEEP}
"""


def sweep(folder, keep, layer="2"):
    text = SWEEP.replace("KEEP", json.dumps(keep)).replace("LAYER", layer)
    (folder / "sweep.yaml").write_text(text)
    return load_sweep(folder / "sweep.yaml")


def test_plan__runs_through_the_sweep_and_removes_the_inversion(tmp_path):
    path = tmp_path / "digits.ensemble"
    run_sweep(sweep(tmp_path, ["all"]), path, workers=1)
    (first,) = invert_runs(inpca.open_ensemble(path))
    assert first.verdict == "inversion"
    plan = inpca.inversion.pruning_plan({"stragglers": first.stragglers}, whole=False)
    for name, entry in plan.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(entry))
    run_sweep(sweep(tmp_path, ["all", *(f"{name}.json" for name in plan)]), path, workers=1)
    ensemble = inpca.open_ensemble(path)
    runs = invert_runs(ensemble)
    verdicts = {one.config["keep"]: one.verdict for one in runs}
    assert verdicts == {
        "all": "inversion",
        "without-stragglers": "monotone",
        "without-stragglers-random-0": "inversion",
    }
    assert inversion_table(runs)["n_stragglers"].notna().sum() == 2
    assert set(ensemble.models["layer"]) == {"2"}
    assert np.isfinite(ensemble.models["test_error"]).all()


def test_unknown_layer__is_named_and_leaves_nothing(tmp_path):
    path = tmp_path / "digits.ensemble"
    with pytest.raises(InputError, match=r"no 'hidden'; its modules are 0 \(Flatten\)"):
        run_sweep(sweep(tmp_path, ["all"], "hidden"), path, workers=1)
    assert not path.exists()
