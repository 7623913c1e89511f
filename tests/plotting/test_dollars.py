"""A dollar in a setting, a key or a column's name is a dollar in every picture, not a formula."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import cbook, pyplot
from matplotlib.text import Text

import inpca
from inpca.plotting.curves import plot_along_progress, plot_explained_distances
from inpca.plotting.figures import plot_pairs
from inpca.plotting.gallery import GALLERY, draw
from inpca.plotting.inversion import plot_levels
from inpca.plotting.settings import Settings
from inpca.plotting.style import as_text
from inpca.plotting.subject import Subject

N, C, CHECKPOINTS = 40, 4, 9
# None of these is a formula that matplotlib could read.
BROKEN = ("$\\frac$", "a $^{$ b", "\\$_{$")


@pytest.mark.parametrize("text", [*BROKEN, "$x$", "$", "costs $3", "_a^b", "\\$", ""])
def test_as_text__is_no_formula_and_is_drawn_as_it_is(text):
    assert not cbook.is_math_text(as_text(text))
    assert as_text(text).replace(r"\$", "$") == text


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    path = tmp_path_factory.mktemp("dollars") / "e"
    labels = np.arange(N) % C
    made = inpca.create_ensemble(path, sample_sets={"train": labels}, n_classes=C)
    for number in range(8):
        rng = np.random.default_rng(number)
        gain = np.linspace(0, 3 + number % 2, CHECKPOINTS)[:, None, None]
        logits = gain * np.eye(C)[labels] + 0.2 * rng.normal(size=(CHECKPOINTS, N, C))
        made.add_run(
            f"r{number}",
            {"train": logits},
            kind="logits",
            epoch=np.arange(CHECKPOINTS),
            config={
                "architecture": BROKEN[number % 2],
                "optimizer": BROKEN[number // 2 % 3],
                "seed": number // 4,
            },
        )
    view = inpca.open_ensemble(path).with_references()
    matrix = inpca.pairwise_distances(view, out=view.distances_path("train"))
    inpca.InPCA(3, metric="precomputed").fit(matrix).save(view.embeddings_path("train"))
    return Subject(inpca.open_ensemble(path), settings=Settings(away=0.3))


@pytest.mark.parametrize("name", [name for name in GALLERY if name != "joint"])
def test_picture_of_settings_with_dollars__is_drawn(subject, name):
    figure = draw(name, subject)
    figure.draw_without_rendering()
    words = [text.get_text() for text in figure.findobj(Text)]
    assert not [text for text in words if "frac" in text and cbook.is_math_text(text)]
    pyplot.close(figure)


def test_picture_of_keys_and_columns_with_dollars__is_drawn(subject):
    embedding = subject.embedding
    models = subject.models.copy()
    models = models.assign(**{"$\\frac$": models["train_error"]})
    models.index = pd.Index([f"{key}$^{{$" for key in models.index])
    for column in ("$\\frac$", "run"):
        figure = plot_pairs(embedding, models, column)
        figure.draw_without_rendering()
        pyplot.close(figure)


def test_curves_named_with_dollars__are_drawn():
    values = {BROKEN[0]: [0.1, 0.2], BROKEN[1]: [0.3, 0.4]}
    for ax in (
        plot_along_progress([0.0, 1.0], values),
        plot_explained_distances(values),
        plot_levels([0.1, 0.2], values),
    ):
        ax.figure.draw_without_rendering()
        pyplot.close(ax.figure)
