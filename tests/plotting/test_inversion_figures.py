"""Pictures of the inversion dynamics: what they show and refuse."""

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure

from inpca.errors import InputError
from inpca.geometry.inversion import inversion
from inpca.geometry.inversion_runs import RunInversion
from inpca.inversion import fraction_limit
from inpca.plotting import inversion as plots
from inpca.plotting import panels

EPOCHS = np.r_[0, np.unique(np.geomspace(1, 600, 40).astype(int))]
DIP = np.exp(-EPOCHS / 20) + 0.5 * (1 - np.exp(-EPOCHS / 200))
ERROR = 0.5 * np.exp(-EPOCHS / 60)
SEEDS = np.linspace(0.95, 1.05, 4)[:, None]
CURVES = {"radius_plus": SEEDS * DIP, "radius_minus": 0.9 * SEEDS * DIP, "centre_distance": -DIP}


@pytest.fixture
def ax():
    return pyplot.figure().add_subplot()


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_epochs__draw_means_bands_and_the_inversion(ax):
    assert plots.plot_epochs(EPOCHS, CURVES, inversion=(50, 60), ax=ax) is ax
    band = "± 2 standard deviations"
    assert sorted(legend(ax)) == sorted(["$R_+$", "$R_-$", "$D$", band, "inversion"])
    np.testing.assert_allclose(ax.lines[0].get_ydata(), CURVES["radius_plus"].mean(axis=0))
    assert len(ax.collections) == 2  # bands of those with several runs
    assert ax.get_xlim() == (0, 600)


def test_epochs__draw_every_run_when_asked(ax):
    plots.plot_epochs(EPOCHS, {"radius_plus": CURVES["radius_plus"]}, each=True, ax=ax)
    assert len(ax.lines) == 4
    assert legend(ax) == ["$R_+$"]


def test_epochs__draw_some_run_by_run_and_some_in_grey_behind(ax):
    names = ("all", "without", "earlier", "later")
    curves = {name: CURVES["radius_plus"] for name in names}
    grey = ("earlier", "later")
    plots.plot_epochs(EPOCHS, curves, each=("without", *grey), grey=grey, ax=ax)
    assert len(ax.lines) == 1 + 3 * len(SEEDS)
    assert legend(ax) == [*names, "± 2 standard deviations"]
    looks = {line.get_label(): (line.get_color(), line.get_linestyle()) for line in ax.lines}
    assert looks["earlier"][0] == looks["later"][0]
    assert len({looks[name] for name in names}) == 4
    behind = {line.get_zorder() for line in ax.lines if line.get_color() == looks["later"][0]}
    assert max(behind) < ax.lines[0].get_zorder()


@pytest.mark.parametrize("argument", ["each", "grey"])
def test_epochs__refuse_a_name_that_is_no_curve(ax, argument):
    with pytest.raises(InputError, match=f"`{argument}` must name .*radius_minus.*, not 'radius'"):
        plots.plot_epochs(EPOCHS, CURVES, **{argument: ["radius"]}, ax=ax)


def test_against_error__draws_every_run_over_its_own_error(ax):
    error = SEEDS * ERROR
    plots.plot_against_error(error, {"radius_plus": SEEDS * DIP}, phi=(0.1, 0.1), ax=ax)
    np.testing.assert_array_equal(ax.lines[2].get_xdata(), error[2])
    assert all(handle.get_alpha() == 1 for handle in ax.get_legend().legend_handles)


def test_before_after__has_radii_and_distances():
    rng = np.random.default_rng(0)
    before, after = ({name: rng.normal(k, 0.1, 50) for name in CURVES} for k in (1, 2))
    radii, distances = plots.plot_before_after(before, after)
    assert len(radii.collections) == 2
    assert sum(bar.get_height() for bar in distances.patches) == 100


def test_levels__draw_curves_over_the_error_that_chose(ax):
    plots.plot_levels([0.1, 0.2, 0.3], {"z": [1, 2, 3], "radius_plus": np.ones((4, 3))}, ax=ax)
    assert legend(ax) == ["z", "$R_+$", "± 2 standard deviations"]


def test_legend__has_curves_first_and_what_they_share_last(ax):
    curves = {"radius_plus": np.ones((4, 2)), "z": [1, 2]}
    plots.plot_levels([0.1, 0.2], curves, phi=(0.1, 0.2), ax=ax)
    assert legend(ax) == ["$R_+$", "z", "± 2 standard deviations", "inversion"]


def test_fraction_limit__draws_the_fit_with_its_limit(ax):
    sizes = np.array([500, 1000, 2000, 4000, 8000])
    fractions = 0.11 * (1 - (sizes / 50) ** -0.8)
    limit = fraction_limit(sizes, fractions)
    plots.plot_fraction_limit(sizes, {"digits": fractions}, {"digits": limit}, ax=ax)
    assert any("0.110" in text for text in legend(ax))


def test_fractions__have_a_look_for_each_name(ax):
    plots.plot_fractions([10, 20, 30], [0.1, 0.1, 0.12], [0.01] * 3, ["2", "2", "4"], ax=ax)
    assert legend(ax) == ["2", "4"]


def run(number, observables=None, **config):
    curves = observables or {
        name: np.ravel(values)[: len(EPOCHS)] for name, values in CURVES.items()
    }
    found = inversion(curves, ERROR, EPOCHS)
    return RunInversion(f"r{number}", config, EPOCHS.astype(float), curves, ERROR, found, None)


def test_dynamics__of_an_ensemble_has_two_panels():
    figure = plots.plot_dynamics([run(0), run(1)])
    left, right = figure.axes
    curves = [[line for line in ax.lines if len(line.get_xdata()) > 2] for ax in (left, right)]
    assert [len(one) for one in curves] == [6, 6]
    assert legend(left)[-1] == "inversion"


def test_dynamics__have_a_row_for_each_value_of_a_setting(tmp_path):
    runs = [run(number, keep=("all", "few")[number % 2]) for number in range(5)]
    axes = plots.plot_dynamics(runs, by="keep").axes
    assert [ax.get_title(loc="left") for ax in axes] == ["keep: all", "", "keep: few", ""]
    curves = [sum(len(line.get_xdata()) > 2 for line in ax.lines) for ax in axes]
    assert curves == [9, 9, 6, 6]
    assert axes[0].get_xlim() == axes[2].get_xlim() == (0, 600)
    assert len(plots.plot_dynamics(runs).axes) == 2  # none of them has the default setting
    with pytest.raises(InputError, match=r"`by` must be a setting of at most 6.*'seed' has 7"):
        plots.plot_dynamics([run(seed, seed=seed) for seed in range(7)], by="seed")


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([0, 0.08, 3, 20], [0, 0.1, 1, 10]),
        ([1, 30, 600], [1, 10, 100]),
        ([0, 12, 80], [0, 12, 80]),
        ([0, 50, 300], [0, 50, 100, 300]),
    ],
)
def test_epochs__have_no_numbers_between_0_and_the_first(ax, times, expected):
    panels.log_epochs(ax, np.array(times, dtype=float))
    np.testing.assert_allclose(ax.get_xticks(), expected)


def test_dynamics__of_many_classes_draw_medians():
    many = {
        "radius": np.stack([DIP] * 3, axis=1),
        "centre_distances": np.ones((len(DIP), 3, 3)),
    }
    figure = plots.plot_dynamics([run(0, many)], figure=Figure())
    assert legend(figure.axes[0])[:2] == ["median radius", "median centre distance"]


def test_pictures__refuse_what_does_not_fit(tmp_path):
    nothing = RunInversion("a", {}, EPOCHS.astype(float), {}, ERROR, None, None)
    with pytest.raises(InputError, match="at least one with observables"):
        plots.plot_dynamics([nothing])
    with pytest.raises(InputError, match=r"`radius_plus` must have shape \(n_runs, \d+\)"):
        plots.plot_epochs(EPOCHS, {"radius_plus": DIP[1:]})
    with pytest.raises(InputError, match="must have the shape of `train_error`"):
        plots.plot_against_error(ERROR, CURVES)
    with pytest.raises(InputError, match="folder that does not exist"):
        plots.save_dynamics([run(0)], tmp_path / "none" / "a.png")
