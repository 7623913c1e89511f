"""Which average of several networks predicts best?

python examples/geometry/averages.py

Probabilities can be averaged in several ways. The order of the test errors is printed as it comes
out; the paper found the harmonic mean a little better than the usual, arithmetic one.
"""

from digits_ensemble import from_command_line

import inpca


def main() -> None:
    ensemble = from_command_line(__doc__)
    last = ensemble.select(list(ensemble.models.groupby("run").tail(1).index))

    print("the last checkpoints, one by one:")
    print(last.models[["run", "test_error", "test_loss"]].to_string(index=False))
    print("their averages:")
    print(inpca.compare_averages(last, sample_set="test").to_string(index=False))

    # Averages of groups are stored as runs of their own, of the kind "reference": they can be
    # embedded and projected like any other model, and are left out where trainings are counted.
    stored = inpca.average_groups(last, "architecture", "bhattacharyya", name="centroid")
    print("stored:", ", ".join(stored))
    again = inpca.open_ensemble(ensemble.path).models
    print(again.loc[again["run"].isin(stored), ["run", "kind", "test_error"]].to_string())


if __name__ == "__main__":
    main()
