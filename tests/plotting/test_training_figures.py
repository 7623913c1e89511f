"""Figures of what training does: each shows the numbers it was given, and refuses what is wrong."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from scipy.cluster.hierarchy import linkage

from inpca.errors import InputError
from inpca.plotting.beside import plot_beside
from inpca.plotting.corner import nearest, plot_corner
from inpca.plotting.counts import plot_counts
from inpca.plotting.curves import (
    plot_along_progress,
    plot_explained_by_samples,
    plot_explained_distances,
    plot_progress_epoch,
    plot_progress_error,
)
from inpca.plotting.figures import plot_3d, plot_pairs
from inpca.plotting.trajectories import plot_dendrogram, plot_importance


@pytest.fixture(autouse=True)
def close_figures():
    yield
    pyplot.close("all")


@pytest.fixture
def table():
    """Two architectures, two optimizers, two seeds, four checkpoints."""
    rows = [
        {"run": f"{a}-{o}-{seed}", "checkpoint": k, "epoch": k, "architecture": a, "optimizer": o}
        | {"seed": seed, "train_error": 0.9 - 0.3 * k, "train_loss": 2.3 - 0.7 * k}
        for a in ("cnn", "fc")
        for o in ("adam", "sgd")
        for seed in range(2)
        for k in range(4)
    ]
    frame = pd.DataFrame(rows)
    frame.index = pd.Index(frame.run + "/" + frame.checkpoint.astype(str), name="model")
    return frame


@pytest.fixture
def progress(table):
    return 0.3 * table["epoch"].to_numpy(float) + 0.02 * table["seed"].to_numpy(float)


def drawn_points(ax):
    return np.concatenate([np.asarray(c.get_offsets()) for c in ax.collections])


def legend_of(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_progress_against_error__has_one_point_per_model(table, progress):
    ax = plot_progress_error(table, progress, r_squared=0.5)
    points = drawn_points(ax)
    expected = np.stack([progress, table["train_error"]], axis=1)
    assert sorted(map(tuple, np.ma.getdata(points))) == sorted(map(tuple, expected))
    assert legend_of(ax) == ["cnn", "fc", "straight line"]
    assert "0.500" in ax.get_title()


def test_progress_against_error__of_other_models_is_refused(table, progress):
    with pytest.raises(InputError, match="rows but there are"):
        plot_progress_error(table, progress[:-1])
    with pytest.raises(InputError, match="no column 'test_error'"):
        plot_progress_error(table, progress, "test_error")


def test_progress_against_epoch__draws_the_mean_and_the_range_of_the_seeds(table, progress):
    ax = plot_progress_epoch(table, progress, ["architecture", "optimizer"])
    assert legend_of(ax) == ["cnn, adam", "cnn, sgd", "fc, adam", "fc, sgd"]
    for line in ax.lines:
        assert line.get_ydata() == pytest.approx(0.3 * np.arange(4) + 0.01)
    band = ax.collections[0].get_paths()[0].vertices
    at_last = band[band[:, 0] == 3, 1]
    assert (at_last.min(), at_last.max()) == pytest.approx((0.9, 0.92))


def test_progress_against_epoch__names_a_column_that_is_missing(table, progress):
    with pytest.raises(InputError, match="`by` names the column 'width'"):
        plot_progress_epoch(table, progress, "width")
    many = pd.concat([table] * 8).assign(kind_of=np.arange(256) // 4)
    with pytest.raises(InputError, match="64 groups, more than"):
        plot_progress_epoch(many, np.zeros(256), "kind_of")


def test_along_progress__draws_each_curve(table):
    s = np.linspace(0, 1, 5)
    ax = plot_along_progress(s, {"cnn": s, "fc": s**2}, bands={"fc": (s**2 - 0.1, s**2 + 0.1)})
    assert [list(line.get_ydata()) for line in ax.lines] == [list(s), list(s**2)]
    assert len(ax.collections) == 1
    with pytest.raises(InputError, match=r"'cnn' has shape \(4,\)"):
        plot_along_progress(s, {"cnn": s[1:]})


def test_explained_distances__count_coordinates_from_one():
    ax = plot_explained_distances({"all": [0.5, 0.9, 0.8], "four points": [0.4]})
    assert list(ax.lines[0].get_xdata()) == [1, 2, 3]
    assert legend_of(ax) == ["all", "four points"]


def test_explained_by_samples__averages_the_repeats():
    rows = [(n, d, d / 10 + shift) for n in (5, 50) for d in (1, 3) for shift in (0, 0.02)]
    table = pd.DataFrame(rows, columns=["n_samples", "d", "explained"])
    ax = plot_explained_by_samples(table)
    assert ax.lines[1].get_ydata() == pytest.approx([0.31, 0.31])
    with pytest.raises(InputError, match="no column 'explained'"):
        plot_explained_by_samples(table.drop(columns="explained"))


def test_counts__are_those_of_the_models_that_are_away(table, progress):
    away = (progress < 0.25) & (table["architecture"] == "fc").to_numpy()
    ax = plot_counts(table, away)
    heights = {bars.get_label(): [patch.get_height() for patch in bars] for bars in ax.containers}
    assert heights == {"adam": [0, 2], "sgd": [0, 2]}
    assert [text.get_text() for text in ax.get_xticklabels()] == ["cnn", "fc"]
    with pytest.raises(InputError, match="truth values"):
        plot_counts(table, progress)


def test_counts__of_numbers_are_cut_into_parts(table, progress):
    ax = plot_counts(table, progress < 0.25, by="train_loss", stack=None)
    assert sum(patch.get_height() for patch in ax.patches) == (progress < 0.25).sum()
    assert ax.get_xticklabels()[-1].get_text() == "2.04 to 2.3"


def test_nearest__is_the_closest_point_within_reach():
    near = {"A": [0.1, 0.2, 0.3], "B": [0.2, 0.1, 0.3]}
    assert nearest(near, 0.15, 3) == ["A", "B", "no point"]
    with pytest.raises(InputError, match="one distance for each of the 4"):
        nearest(near, 0.15, 4)


def test_corner__has_a_panel_for_each_colour(picture):
    models = picture.models
    near = {"A": np.linspace(0, 1, len(models))}
    figure = plot_corner(picture.embedding, models, ["architecture", "train_loss"], near=near)
    titles = [panel.axes[0].get_title() for panel in figure.subfigs[:3]]
    assert titles == ["architecture", "train loss", "nearer than 0.15 to"]
    with pytest.raises(InputError, match="`colors` must name columns"):
        plot_corner(picture.embedding, models[[]])


def test_geodesic__is_drawn_over_the_models_without_changing_the_frame(picture):
    plain = plot_pairs(picture.embedding, picture.models).axes[0]
    curve = np.outer(np.linspace(-9, 9, 5), np.ones(picture.embedding.embedding_.shape[1]))
    ax = plot_pairs(picture.embedding, picture.models, geodesic=curve).axes[0]
    assert ax.get_xlim() == plain.get_xlim()
    lines = [line for line in ax.lines if line.get_label().startswith("geodesic")]
    assert np.array_equal(lines[0].get_xydata(), curve[:, :2])
    space = plot_3d(picture.embedding, picture.models, geodesic=curve)
    assert any(line.get_label().startswith("geodesic") for line in space.lines)
    with pytest.raises(InputError, match="`geodesic` must hold finite coordinates"):
        plot_3d(picture.embedding, picture.models, geodesic=curve[:, :2])


def test_corner__has_axes_of_one_size_in_rows_and_columns(picture):
    near = {"A": np.linspace(0, 1, len(picture.models))}
    figure = plot_corner(picture.embedding, picture.models, near=near)
    figure.draw_without_rendering()
    boxes = [panel.axes[0].get_window_extent() for panel in figure.subfigs]
    assert len(boxes) == 4
    assert np.ptp([box.width for box in boxes]) < 1
    for axis, pairs in (("y0", ((0, 1), (2, 3))), ("x0", ((0, 2), (1, 3)))):
        for first, second in pairs:
            assert abs(getattr(boxes[first], axis) - getattr(boxes[second], axis)) < 1
    for panel in figure.subfigs:
        words = panel.axes[0].get_tightbbox()
        assert not any(one.get_window_extent().overlaps(words) for one in panel.legends)


def test_error_against_progress__has_the_line_that_its_title_speaks_of(table, progress):
    ax = plot_progress_error(table, progress, r_squared=1.0)
    (line,) = (line for line in ax.lines if line.get_label() == "straight line")
    (x0, y0), (x1, y1) = line.get_xydata()
    slope, start = np.polyfit(progress, table["train_error"], 1)
    assert (x0, x1) == (progress.min(), progress.max())
    assert (y0, y1) == pytest.approx((start + slope * x0, start + slope * x1))


def test_band_of_progress__is_explained_in_the_legend(table, progress):
    ax = plot_progress_epoch(table, progress)
    assert "band: lowest to highest run" in ax.get_legend().get_title().get_text()


def test_curve_beyond_a_runs_reach__is_pale_and_named(table):
    s = np.linspace(0, 1, 5)
    ax = plot_along_progress(s, {"cnn": s, "fc": s}, held={"cnn": s > 0.6})
    reached, pale = ax.lines[:2]
    assert np.isnan(reached.get_ydata()).tolist() == (s > 0.6).tolist()
    assert pale.get_alpha() < 1
    assert np.isfinite(pale.get_ydata()).tolist() == (s > 0.4).tolist()
    assert "held: beyond a run's reach" in legend_of(ax)
    assert legend_of(plot_along_progress(s, {"cnn": s})) == ["cnn"]
    with pytest.raises(InputError, match="`held` 'cnn' must hold 5 truth values"):
        plot_along_progress(s, {"cnn": s}, held={"cnn": s})


def test_least_p_that_counting_gives__is_a_bound():
    table = pd.DataFrame(
        {"importance": [0.1, 0.5], "deviation": [0.0, 0.0], "p_value": [3 / 101, 1 / 101]},
        index=["seed", "architecture"],
    )
    ax = plot_importance(table, least=1 / 101)
    assert [text.get_text() for text in ax.texts] == ["P = 0.030", "P ≤ 0.010"]


def test_models_on_another_sample_set__are_pale_in_the_same_picture(picture):
    points = picture.embedding.embedding_
    ax = plot_3d(picture.embedding, picture.models, again={"test": 0.5 * points})
    dots = [one for one in ax.collections if len(one.get_offsets()) > 1]
    own, pale = ([one for one in dots if (one.get_alpha() < 0.5) == is_pale] for is_pale in (0, 1))
    assert len(own) == len(pale) == 4
    colors = [{tuple(one.get_edgecolor()[0][:3]) for one in some} for some in (own, pale)]
    assert colors[0] == colors[1]
    names = [text.get_text() for text in ax.figure.legends[0].get_texts()]
    assert names.count("cnn") == names.count("test (pale)") == 1
    with pytest.raises(InputError, match="`again` 'test' must hold finite coordinates"):
        plot_3d(picture.embedding, picture.models, again={"test": points[1:]})


def test_beside__shows_all_pictures_at_one_scale(picture):
    points = picture.embedding.embedding_
    pictures = {"train": (points, picture.models), "test": (0.5 * points, picture.models)}
    figure = plot_beside(picture.embedding, pictures)
    train, test = (panel.axes[0] for panel in figure.subfigs)
    assert train.get_xlim() == test.get_xlim()
    assert [panel.get_suptitle() for panel in figure.subfigs] == ["train", "test"]
    with pytest.raises(InputError, match="at least one"):
        plot_beside(picture.embedding, {})


def test_dendrogram__has_a_leaf_for_each_trajectory(table):
    runs = table.groupby("run").first()
    points = np.random.default_rng(0).normal(size=(len(runs), 3))
    figure = plot_dendrogram(linkage(points), runs)
    names = [text.get_text() for text in figure.axes[1].get_xticklabels()]
    assert sorted(names) == sorted(runs.index)
    colours = {name: bar for bar in figure.axes[1].containers for name in [bar.get_label()]}
    for name, bars in colours.items():
        places = [int(bar.get_x() // 10) for bar in bars]
        assert {runs.loc[names[place], "architecture"] for place in places} == {name}
    with pytest.raises(InputError, match=r"must have shape \(7, 4\)"):
        plot_dendrogram(linkage(points[1:]), runs)


def test_importance__has_its_largest_bar_on_top():
    table = pd.DataFrame(
        {"importance": [0.1, 0.5], "deviation": [0.01, 0.02], "p_value": [0.04, 1e-5]},
        index=["seed", "architecture"],
    )
    ax = plot_importance(table)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["seed", "architecture"]
    assert [text.get_text() for text in ax.texts] == ["P = 0.040", "P < 0.001"]
    with pytest.raises(InputError, match="no column 'deviation'"):
        plot_importance(table[["importance"]])


def test_figures__are_drawn_into_the_axes_that_are_given(table, progress):
    _, ax = pyplot.subplots()
    assert plot_progress_error(table, progress, ax=ax) is ax
    assert plot_counts(table, progress < 1, ax=ax) is ax
