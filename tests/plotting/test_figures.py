"""Figures for print: what they show, say and refuse."""

import builtins
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.colors import LogNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from inpca.errors import InputError
from inpca.plotting import style
from inpca.plotting.figures import plot_3d, plot_pairs, plot_spectrum


def dots(ax: Any) -> list[PathCollection]:
    return [artist for artist in ax.collections if isinstance(artist, PathCollection)]


def legend_texts(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def boxes_overlap(figure: Any, artists: list[Any]) -> bool:
    figure.draw_without_rendering()  # as savefig does: layouts settle in two passes
    figure.canvas.draw()
    boxes = [artist.get_window_extent() for artist in artists]
    return any(a.overlaps(b) for a, b in combinations(boxes, 2))


# --- pairs -----------------------------------------------------------------------------------


def test_pairs__are_the_three_pairs_of_the_first_three_coordinates(picture: Any) -> None:
    figure = plot_pairs(picture.embedding, picture.models)
    labels = [(ax.get_xlabel()[:12], ax.get_ylabel()[:12]) for ax in figure.axes]
    first, second, third = (f"coordinate {k}" for k in (1, 2, 3))
    assert labels == [(first, second), (first, third), (second, third)]


def test_axis_labels__tell_number_sign_and_share(picture: Any) -> None:
    signature = picture.embedding.signature_
    for number in range(1, len(signature) + 1):
        label = style.axis_label(picture.embedding, number)
        sign = "space-like, +" if signature[number - 1] > 0 else "time-like, −"
        assert label.startswith(f"coordinate {number} ({sign}), ")
        assert label.endswith("% of Σλ²")
    assert {"+", "−"} == {style.character(sign)[-1] for sign in signature}


def test_shares__add_up_to_the_explained_stress(picture: Any) -> None:
    total = style.shares(picture.embedding).sum()
    assert total == pytest.approx(picture.embedding.explained_stress_[-1])


def test_pairs__draw_every_embedded_model_once_and_leave_references_to_their_symbols(
    picture: Any,
) -> None:
    figure = plot_pairs(picture.embedding, picture.models)
    names = ["attention", "cnn", "linear", "mlp"]
    for ax in figure.axes:
        drawn = {c.get_label(): len(c.get_offsets()) for c in dots(ax)}
        assert sum(drawn[name] for name in names) == len(picture.models) - 2
        assert drawn["ignorance P₀"] == drawn["truth P*"] == 1


def test_pairs__name_the_references_in_the_picture(picture: Any) -> None:
    figure = plot_pairs(picture.embedding, picture.models)
    for ax in figure.axes:
        texts = [text.get_text() for text in ax.texts]
        assert any("ignorance" in text for text in texts)
        assert any("truth" in text for text in texts)


def test_pairs__join_the_checkpoints_of_a_run_in_order(picture: Any) -> None:
    shuffled = np.random.default_rng(0).permutation(len(picture.models))
    embedding = _reordered(picture.embedding, shuffled)
    figure = plot_pairs(embedding, picture.models.iloc[shuffled], color="run")
    for run, table in picture.models[picture.models["kind"] == "checkpoint"].groupby("run"):
        rows = picture.models.index.get_indexer(table.sort_values("checkpoint").index)
        wanted = picture.embedding.embedding_[rows, :2]
        drawn = [line.get_xydata() for line in figure.axes[0].lines]
        assert any(d.shape == wanted.shape and np.allclose(d, wanted) for d in drawn), run


def test_categories__have_different_colours_and_different_markers(picture: Any) -> None:
    ax = plot_pairs(picture.embedding, picture.models).axes[0]
    mine = [c for c in dots(ax) if c.get_label() in set(picture.models["architecture"].dropna())]
    assert len(mine) == 4
    assert len({tuple(c.get_edgecolor()[0]) for c in mine}) == 4
    shapes = {(c.get_paths()[0].vertices.tobytes(), len(c.get_facecolor())) for c in mine}
    assert len(shapes) == 4


def test_projected_models__have_a_marker_of_their_own_and_stand_in_the_legend(
    picture: Any,
) -> None:
    figure = plot_pairs(picture.embedding, picture.models, **picture.held_out)
    assert "projected (held out)" in legend_texts(figure)
    ax = figure.axes[0]
    mine = [c for c in dots(ax) if len(c.get_offsets()) == len(picture.projected)]
    assert any(np.allclose(c.get_offsets(), picture.projected[:, :2]) for c in mine)


def test_numeric_column__has_a_labelled_colour_bar(picture: Any) -> None:
    figure = plot_pairs(picture.embedding, picture.models, "train_loss", log_color=True)
    bar = figure.axes[-1]
    assert bar.get_ylabel() == "train_loss (log scale)"
    assert any(isinstance(c.norm, LogNorm) for c in dots(figure.axes[0]))


def test_legend_and_labels__do_not_overlap_each_other(picture: Any) -> None:
    figure = plot_pairs(picture.embedding, picture.models, **picture.held_out)
    labels = [axis.label for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)]
    assert not boxes_overlap(figure, [*labels, *figure.legends])
    for ax in figure.axes:
        assert not boxes_overlap(figure, list(ax.texts))


def test_reference_far_away__is_pointed_to_instead_of_squeezing_the_rest(picture: Any) -> None:
    far = _reordered(picture.embedding, np.arange(len(picture.models)))
    far.embedding_[picture.models.index.get_loc("@truth"), 0] = 40.0
    ax = plot_pairs(far, picture.models).axes[0]
    assert ax.get_xlim()[1] < 5
    assert any("truth P* is outside" in text.get_text() for text in ax.texts)


def test_pairs__are_drawn_into_the_figure_that_is_given(picture: Any) -> None:
    figure = Figure(layout="constrained")
    assert plot_pairs(picture.embedding, picture.models, figure=figure) is figure


@pytest.mark.parametrize("components", [(0, 1), (1, 99), (2, 2)])
def test_components__must_exist_and_differ(picture: Any, components: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="`components` must be different numbers from 1 to 12"):
        plot_pairs(picture.embedding, picture.models, components=components)


# --- small and odd ensembles -----------------------------------------------------------------


@pytest.mark.parametrize(
    "shape",
    [
        {"n_runs": 1, "n_held_out": 0},
        {"references": False},
        {"n_components": 2},
        {"n_checkpoints": 1, "n_components": 3},
    ],
)
def test_pairs__draw_small_ensembles(draw_ensemble: Any, shape: dict[str, Any]) -> None:
    small = draw_ensemble(**shape)
    figure = plot_pairs(small.embedding, small.models)
    assert len(figure.axes) == (1 if shape.get("n_components") == 2 else 3)
    figure.canvas.draw()


def test_missing_metrics__are_drawn_in_grey_and_counted(picture: Any) -> None:
    models = picture.models.copy()
    models.loc[models.index[5:8], "train_loss"] = np.nan
    figure = plot_pairs(picture.embedding, models, "train_loss")
    assert "no value (3 models)" in legend_texts(figure)


def test_table_without_runs__draws_points_and_no_lines(picture: Any) -> None:
    figure = plot_pairs(picture.embedding, picture.models[["train_error"]], "train_error")
    assert not figure.axes[0].lines


def test_no_colour__needs_no_column(picture: Any) -> None:
    figure = plot_pairs(picture.embedding, picture.models[[]], color=None)
    assert "models" in legend_texts(figure)


def test_models_that_coincide__are_not_zoomed_into(coinciding: Any) -> None:
    figure = plot_pairs(coinciding.embedding, coinciding.models, color=None)
    figure.draw_without_rendering()
    for ax in figure.axes:
        for low, high in (ax.get_xlim(), ax.get_ylim()):
            assert high - low > 1e-2
        assert not any(axis.get_offset_text().get_text() for axis in (ax.xaxis, ax.yaxis))
        assert {text.get_text() for text in ax.texts} == {"ignorance P₀", "truth P*"}
        assert not boxes_overlap(figure, list(ax.texts))


def test_zero_coordinate__has_no_sign(coinciding: Any) -> None:
    assert style.axis_label(coinciding.embedding, 3) == "coordinate 3 (zero), 0 % of Σλ²"
    ax = plot_spectrum(coinciding.embedding)
    assert "zero, not drawn: 1 of 3" in [text.get_text() for text in ax.get_legend().get_texts()]
    assert sum(len(c.get_offsets()) for c in dots(ax)) == 2


def test_models_that_all_coincide__can_be_drawn(coinciding: Any) -> None:
    same = _reordered(coinciding.embedding, np.arange(7))
    same.embedding_[:] = 0.25
    figure = plot_pairs(same, coinciding.models, color=None)
    figure.draw_without_rendering()
    low, high = figure.axes[0].get_xlim()
    assert low < 0.25 < high


def test_references_outside_on_one_side__are_written_below_each_other(picture: Any) -> None:
    far = _reordered(picture.embedding, np.arange(len(picture.models)))
    for key in ("@ignorance", "@truth"):
        far.embedding_[picture.models.index.get_loc(key), :2] = 40.0, 0.0
    figure = plot_pairs(far, picture.models)
    ax = figure.axes[0]
    assert sum("is outside" in text.get_text() for text in ax.texts) == 2
    figure.draw_without_rendering()
    words = [Text.get_window_extent(text) for text in ax.texts]
    assert not words[0].overlaps(words[1])


def test_reference_names__are_close_to_their_symbols(picture: Any) -> None:
    figure = plot_pairs(picture.embedding, picture.models)
    figure.draw_without_rendering()
    for ax in figure.axes:
        for text in ax.texts:
            box = Text.get_window_extent(text)
            x, y = ax.transData.transform(text.xy)
            gap = np.hypot(max(box.x0 - x, x - box.x1, 0), max(box.y0 - y, y - box.y1, 0))
            assert gap * 72 / figure.dpi <= 72
            assert not box.contains(x, y)


def test_legend__shows_the_line_with_the_points(picture: Any) -> None:
    figure = plot_pairs(picture.embedding, picture.models)
    handles = figure.axes[0].get_legend_handles_labels()[0]
    lines = [line for line in figure.legends[0].get_lines() if line.get_linestyle() != "None"]
    assert len(lines) == 4
    assert len({line.get_linestyle() for line in lines}) == 4
    assert len(handles) == 6


def test_shapes__are_the_same_on_paper_and_on_the_page() -> None:
    shapes = (*style.SHAPES, *style.REFERENCE_SHAPES.values(), style.PROJECTED_SHAPE)
    named = {"circle": "o", "square": "s", "diamond": "D"}
    for shape in shapes:
        assert named[shape.symbol.removesuffix("-open")] == shape.marker
    assert len(set(style.SHAPES)) == len(style.SHAPES)


def test_loss__has_logarithmic_colours_unless_told_otherwise(picture: Any) -> None:
    assert picture.models["train_loss"].max() > 50 * picture.models["train_loss"].min()
    for log_color, wanted in ((None, True), (True, True), (False, False)):
        figure = plot_pairs(picture.embedding, picture.models, "train_loss", log_color=log_color)
        assert ("log scale" in figure.axes[-1].get_ylabel()) == wanted
    figure = plot_pairs(picture.embedding, picture.models, "train_error")
    assert figure.axes[-1].get_ylabel() == "train_error"


# --- three dimensions ------------------------------------------------------------------------


def test_3d__labels_three_axes_and_names_the_references(picture: Any) -> None:
    ax = plot_3d(picture.embedding, picture.models, **picture.held_out)
    labels = [axis.get_label_text() for axis in (ax.xaxis, ax.yaxis, ax.zaxis)]
    assert [label[:12] for label in labels] == [f"coordinate {k}" for k in (1, 2, 3)]
    assert {text.get_text().strip() for text in ax.texts} == {"ignorance P₀", "truth P*"}


@pytest.mark.parametrize("color", ["architecture", "train_loss"])
def test_3d__fills_its_paper(picture: Any, color: str) -> None:
    figure = Figure(figsize=(8, 6))
    ax = plot_3d(picture.embedding, picture.models, color, figure=figure)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    ink = (np.asarray(canvas.buffer_rgba())[..., :3] < 255).any(axis=-1)
    for side in (0, 1):
        inked = np.flatnonzero(ink.any(axis=side))
        blank = np.diff(np.concatenate([[-1], inked, [ink.shape[1 - side]]]))
        assert blank.max() < 0.08 * ink.shape[1 - side]
        assert blank[0] > 3 < blank[-1]  # nothing is cut off
    words = Bbox.union([axis.get_tightbbox() for axis in (ax.xaxis, ax.yaxis, ax.zaxis)])
    assert figure.legends[0].get_window_extent().y1 <= words.y0 + 2
    paper = figure.bbox
    for text in ax.texts:
        box = Text.get_window_extent(text)
        assert paper.x0 <= box.x0 < box.x1 <= paper.x1


def test_3d__does_not_zoom_into_rounding(coinciding: Any) -> None:
    coinciding.embedding.embedding_[:, 2] = 1e-13 * np.arange(7)
    ax = plot_3d(coinciding.embedding, coinciding.models, color=None)
    low, high = ax.get_zlim()
    assert high - low > 1e-2


def test_3d__into_axes_leaves_their_figure_alone(picture: Any) -> None:
    figure = Figure(figsize=(10, 5), layout="constrained")
    ax = figure.add_subplot(1, 2, 1, projection="3d")
    assert plot_3d(picture.embedding, picture.models, ax=ax) is ax
    assert tuple(figure.get_size_inches()) == (10, 5)


def test_3d__needs_three_components(draw_ensemble: Any) -> None:
    flat = draw_ensemble(n_components=2)
    with pytest.raises(InputError, match="at least 3 components"):
        plot_3d(flat.embedding, flat.models)


# --- spectrum --------------------------------------------------------------------------------


def test_spectrum__time_like_eigenvalues_have_another_colour_and_marker(picture: Any) -> None:
    ax = plot_spectrum(picture.embedding)
    assert ax.get_yscale() == "log"
    space, time = dots(ax)
    assert (space.get_label(), time.get_label()) == ("space-like, +", "time-like, −")
    assert tuple(space.get_facecolor()[0]) != tuple(time.get_facecolor()[0])
    assert space.get_paths()[0].vertices.shape != time.get_paths()[0].vertices.shape
    values = picture.embedding.eigenvalues_
    assert np.allclose(time.get_offsets()[:, 1], -values[values < 0])


def test_spectrum__writes_both_stresses_at_the_ranks_that_exist(picture: Any) -> None:
    ax = plot_spectrum(picture.embedding)
    fitted = picture.embedding
    wanted = [
        style.brief_percent(stress[rank - 1])
        for stress in (fitted.explained_stress_, fitted.explained_stress_root_)
        for rank in (1, 3, 10)
    ]
    assert [text.get_text() for text in ax.texts] == wanted


@pytest.mark.parametrize(("form", "words"), [("root", "root form"), ("eq8", "Eq. 8 as printed")])
def test_spectrum__says_which_stress_it_is(picture: Any, form: Any, words: str) -> None:
    ax = plot_spectrum(picture.embedding, stress=form)
    assert words in ax.get_title()
    assert [text.get_text() for text in ax.texts] == [
        style.brief_percent(style.stress_of(picture.embedding, form)[rank - 1])
        for rank in (1, 3, 10)
    ]


def test_spectrum__texts_do_not_overlap(draw_ensemble: Any) -> None:
    long = draw_ensemble(n_components=50)
    long.embedding.explained_stress_root_ = np.full(50, 0.99999)  # the longest text everywhere
    ax = plot_spectrum(long.embedding)
    assert len(ax.texts) == 10
    assert not boxes_overlap(ax.figure, [*ax.texts, ax.title])


def test_spectrum__unknown_stress_is_refused(picture: Any) -> None:
    with pytest.raises(InputError, match="`stress` must be one of root, eq8, both, not 'variance'"):
        plot_spectrum(picture.embedding, stress="variance")


def test_spectrum__of_few_coordinates_has_a_number_at_each(draw_ensemble: Any) -> None:
    ax = plot_spectrum(draw_ensemble(n_components=3).embedding)
    ax.figure.draw_without_rendering()
    assert [text.get_text() for text in ax.get_xticklabels()] == ["1", "2", "3"]
    close = _reordered(draw_ensemble(n_components=3).embedding, np.arange(50))
    close.eigenvalues_ = np.array([3.0, 2.5, -2.0])
    ax = plot_spectrum(close)
    ax.figure.draw_without_rendering()
    low, high = ax.get_ylim()
    assert sum(low <= tick <= high for tick in ax.get_yticks()) >= 3


def test_spectrum__has_the_unit_of_its_divergence(picture: Any) -> None:
    embedding = _reordered(picture.embedding, np.arange(len(picture.models)))
    for metric, words in (
        ("bhattacharyya", "|eigenvalue| of W, nats per sample"),
        ("geodesic2", "|eigenvalue| of W, radians²"),
        ("hellinger2", "|eigenvalue| of W"),
    ):
        embedding.metric_ = metric
        assert plot_spectrum(embedding).get_ylabel() == words


# --- many or long names ----------------------------------------------------------------------


def with_averages(picture: Any, n: int) -> pd.DataFrame:
    """The table with `n` checkpoints turned into stored averages with long names."""
    models = picture.models.copy()
    rows = models.index[2 : 2 + n]
    models["n_averaged"] = np.nan
    models.loc[rows, "n_averaged"] = 3
    models.loc[rows, "kind"] = "reference"
    names = {key: f"average-of-a-very-long-name-{key}" for key in rows}
    return models.rename(index=names)


def test_many_averages__have_one_name_in_the_legend_and_none_in_the_picture(picture: Any) -> None:
    figure = plot_pairs(picture.embedding, with_averages(picture, 12))
    names = legend_texts(figure)
    assert "averages (12)" in names
    assert not any("very-long-name" in name for name in names)
    for ax in figure.axes:
        assert {text.get_text() for text in ax.texts} <= {"ignorance P₀", "truth P*"}
        (crowd,) = (one for one in dots(ax) if one.get_label() == "averages (12)")
        assert len(crowd.get_offsets()) == 12


@pytest.mark.parametrize("n", [1, 2])
def test_few_averages__are_named_and_the_legend_stays_on_the_paper(picture: Any, n: int) -> None:
    figure = plot_pairs(picture.embedding, with_averages(picture, n), components=(1, 2))
    figure.draw_without_rendering()
    assert sum("very-long-name" in name for name in legend_texts(figure)) == n
    box = figure.legends[0].get_window_extent()
    assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1


def test_legend_name_wider_than_the_paper__loses_its_middle(picture: Any) -> None:
    models = picture.models.rename(index={picture.models.index[3]: f"first{'x' * 300}last"})
    models.iloc[3, models.columns.get_loc("kind")] = "reference"
    figure = plot_pairs(picture.embedding, models, components=(1, 2))
    figure.draw_without_rendering()
    (name,) = (name for name in legend_texts(figure) if "…" in name)
    assert name.startswith("firstx")
    assert name.endswith("xlast")
    box = figure.legends[0].get_window_extent()
    assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1


def test_names_in_space__do_not_lie_on_the_ticks(picture: Any) -> None:
    ax = plot_3d(picture.embedding, picture.models)
    ax.figure.draw_without_rendering()
    ticks = [tick.label1 for axis in (ax.xaxis, ax.yaxis, ax.zaxis) for tick in axis.majorTicks]
    boxes = [tick.get_window_extent() for tick in ticks if tick.get_text()]
    for text in ax.texts:
        assert not any(Text.get_window_extent(text).overlaps(box) for box in boxes)


# --- refusals --------------------------------------------------------------------------------


def test_missing_column__is_named_with_those_that_exist(picture: Any) -> None:
    with pytest.raises(InputError, match=r"no column 'depth'.*architecture"):
        plot_pairs(picture.embedding, picture.models, "depth")


def test_table_of_other_models__is_refused(picture: Any) -> None:
    with pytest.raises(InputError, match=r"`models` has 3 rows but there are \d+ points"):
        plot_pairs(picture.embedding, picture.models.iloc[:3])


def test_no_table__is_refused(picture: Any) -> None:
    with pytest.raises(InputError, match="`models` must be a pandas DataFrame"):
        plot_pairs(picture.embedding, None)


def test_projected_of_another_width__is_refused(picture: Any) -> None:
    with pytest.raises(InputError, match=r"`projected` must have shape \(n_models, 12\)"):
        plot_pairs(
            picture.embedding,
            picture.models,
            projected=picture.projected[:, :2],
            projected_models=picture.projected_models,
        )


def test_coordinates_that_are_not_finite__are_refused(picture: Any) -> None:
    broken = _reordered(picture.embedding, np.arange(len(picture.models)))
    broken.embedding_[3, 1] = np.nan
    with pytest.raises(InputError, match="1 models have NaN or infinite coordinates"):
        plot_pairs(broken, picture.models)


def test_log_colours__of_zeros_are_refused(picture: Any) -> None:
    models = picture.models.assign(train_error=0.0)
    models["train_error"] += np.linspace(0, 1, len(models))
    models.loc[models.index[4], "train_error"] = 0.0
    with pytest.raises(InputError, match=r"`log_color` needs positive values but 1 of"):
        plot_pairs(picture.embedding, models, "train_error", log_color=True)


def test_too_many_categories__are_refused(picture: Any) -> None:
    models = picture.models.assign(name=[f"m{k}" for k in range(len(picture.models))])
    with pytest.raises(InputError, match="that can be told apart"):
        plot_pairs(picture.embedding, models, "name")


def test_without_matplotlib__the_error_names_the_cure(
    picture: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, *args: Any) -> Any:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(style, "import_module", refuse)
    with pytest.raises(ImportError, match=r"pip install 'inpca\[plots\]'"):
        plot_pairs(picture.embedding, picture.models)
    assert issubclass(style.MissingExtraError, InputError)
    assert builtins.__import__("matplotlib")  # only the lazy import was refused


# --- colours ---------------------------------------------------------------------------------

# Machado, Oliveira & Fernandes (2009), full severity, on linear RGB.
DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
)
PROTANOPIA = np.array(
    [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ]
)


def lab(color: str, vision: np.ndarray) -> np.ndarray:
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(to_xyz) @ np.clip(vision @ linear, 0, 1) / [0.9505, 1, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", [np.eye(3), DEUTERANOPIA, PROTANOPIA])
def test_first_four_colours__are_told_apart_by_everyone(vision: np.ndarray) -> None:
    seen = [lab(color, vision) for color in style.COLORS[:4]]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 20


@pytest.mark.parametrize("vision", [np.eye(3), DEUTERANOPIA, PROTANOPIA])
def test_signs_of_the_spectrum__are_told_apart_by_everyone(vision: np.ndarray) -> None:
    pair = lab(style.SPACE_LIKE, vision) - lab(style.TIME_LIKE, vision)
    assert np.linalg.norm(pair) > 20


def _reordered(embedding: Any, rows: np.ndarray) -> Any:
    copy = type(embedding)(**vars(embedding))
    copy.embedding_ = embedding.embedding_[rows].copy()
    return copy
