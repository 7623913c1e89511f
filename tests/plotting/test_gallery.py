"""Every picture by its name, drawn from an ensemble on disk."""

import shutil

import numpy as np
import pytest
from matplotlib import pyplot
from typer.testing import CliRunner

import inpca
from inpca.cli import app
from inpca.distance.divergences import DIVERGENCES
from inpca.errors import InputError
from inpca.geometry.alignment import counterparts
from inpca.plotting.divergence import divergence_words
from inpca.plotting.gallery import (
    GALLERY,
    available,
    check_color,
    draw,
    refuse_unheeded,
    too_heavy,
)
from inpca.plotting.settings import Settings
from inpca.plotting.subject import Subject

N, C, CHECKPOINTS = 40, 4, 9


def training(labels, ease, seed):
    """Predictions that go from ignorance towards truth, easy samples first."""
    rng = np.random.default_rng(seed)
    clock = np.linspace(0, 6, CHECKPOINTS)[:, None]
    hard = np.sort(rng.gamma(2.0, ease, len(labels)))[None]
    gain = 1.2 * np.maximum(clock - hard, 0)
    noise = 0.2 * rng.normal(size=(1, len(labels), C)) * np.minimum(clock, 1)[..., None]
    return gain[..., None] * np.eye(C)[labels] + noise


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory):
    path = tmp_path_factory.mktemp("gallery") / "e"
    sets = {"train": np.arange(N) % C, "test": np.arange(N // 2) % C}
    made = inpca.create_ensemble(path, sample_sets=sets, n_classes=C)
    for number in range(8):
        architecture, optimizer = ("fc", "cnn")[number % 2], ("sgd", "adam")[number // 2 % 2]
        made.add_run(
            f"{architecture}-{optimizer}-{number // 4}",
            {name: training(y, 0.5 + 0.5 * (number % 2), number) for name, y in sets.items()},
            kind="logits",
            epoch=np.arange(CHECKPOINTS),
            config={"architecture": architecture, "optimizer": optimizer, "seed": number // 4},
        )
    view = inpca.open_ensemble(path).with_references()
    matrices = {
        name: inpca.pairwise_distances(view, sample_set=name, out=view.distances_path(name))
        for name in sets
    }
    embedding = inpca.InPCA(5, metric="precomputed").fit(matrices["train"])
    embedding.save(view.embeddings_path("train"))
    embedding.join("test", matrices["test"])
    embedding.save(view.embeddings_path("train"), overwrite=True)
    return inpca.open_ensemble(path)


@pytest.fixture(scope="module")
def subject(ensemble):
    return Subject(ensemble, settings=Settings(away=0.3))


@pytest.mark.parametrize("name", GALLERY)
def test_picture__can_be_drawn_and_says_what_it_shows(subject, name):
    figure = draw(name, subject)
    figure.draw_without_rendering()
    panels = [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]
    assert any(ax.get_xlabel() or ax.get_ylabel() for ax in panels)
    assert any(ax.has_data() for ax in panels)
    pyplot.close(figure)


def test_all_pictures__are_available_where_nothing_is_missing(subject):
    assert available(subject) == list(GALLERY)


def test_picture_that_lacks_something__says_what(tmp_path, ensemble):
    path = tmp_path / "poor"
    labels = ensemble.sample_sets["train"].labels
    poor = inpca.create_ensemble(path, sample_sets={"train": labels}, n_classes=C)
    poor.add_run("one", {"train": training(labels, 1.0, 0)}, kind="logits")
    poor = inpca.open_ensemble(path)
    inpca.pairwise_distances(poor, out=poor.distances_path("train"))
    embedding = inpca.InPCA(2, metric="precomputed")
    embedding.fit(inpca.TiledMatrix.open(poor.distances_path("train")))
    embedding.save(poor.embeddings_path("train"))
    subject = Subject(poor)
    assert not {"3d", "manifold", "joint", "dendrogram", "importance"} & set(available(subject))
    draw("shares", subject)  # one training has samples that it learns last
    for name, words in (
        ("3d", "three coordinates"),
        ("joint", "inpca join"),
        ("dendrogram", "at least 3 runs, not 1"),
        ("progress-epoch", "no column 'epoch'"),
    ):
        with pytest.raises(InputError, match=words):
            draw(name, subject)


def test_unknown_picture__names_the_nearest(subject):
    with pytest.raises(InputError, match="did you mean 'dendrogram'"):
        draw("dendogram", subject)


def test_geodesic__ends_at_ignorance_and_truth(subject):
    models = subject.models
    for key, end in (("@ignorance", 0), ("@truth", -1)):
        own = subject.embedding.embedding_[models.index.get_loc(key)]
        assert subject.geodesic[end] == pytest.approx(own, abs=1e-4)


def test_heavy_pictures__are_not_computed_for_a_report_of_many_models(subject, monkeypatch):
    assert not any(too_heavy(name, subject) for name in GALLERY)
    monkeypatch.setattr(Subject, "work", 1e13)
    assert [name for name in GALLERY if too_heavy(name, subject)] == ["samples", "shares"]


# --- other divergences -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def jeffreys(ensemble):
    """The same models embedded by Jeffreys' divergence."""
    view = inpca.open_ensemble(ensemble.path).with_references()
    matrix = inpca.pairwise_distances(
        view, metric="jeffreys", out=view.distances_path("other"), sample_set="train"
    )
    inpca.InPCA(6).fit(matrix).save(view.embeddings_path("other"))
    return Subject(inpca.open_ensemble(ensemble.path), "other", settings=Settings(points=5))


def test_everything_of_an_embedding__is_of_its_divergence(jeffreys):
    assert jeffreys.metric == "jeffreys"
    assert jeffreys.four_point.embedding.metric_ == "jeffreys"
    whole = inpca.explained_pairwise_distances(
        jeffreys.matrix, jeffreys.embedding.embedding_, jeffreys.embedding.signature_
    )
    assert jeffreys.explained["all models"] == pytest.approx(whole)
    of_all = jeffreys.by_samples.query(f"n_samples == {N} and d == 3")["explained"]
    assert of_all.to_numpy() == pytest.approx(whole[2], abs=1e-5)
    # A point of the geodesic next to truth is as far from a model as truth is, nearly.
    truth = jeffreys.models.index.get_loc("@truth")
    own = np.asarray(jeffreys.matrix)[truth]
    near_ignorance = np.asarray(jeffreys.matrix)[jeffreys.models.index.get_loc("@ignorance")]
    assert jeffreys.marks["A, s = 0.01"] == pytest.approx(near_ignorance, rel=0.2, abs=0.05)
    assert np.corrcoef(jeffreys.marks["C, s = 0.99"], own)[0, 1] > 0.9


def test_trainings__are_compared_by_the_divergence_of_the_embedding(jeffreys):
    own, s = jeffreys.own, np.linspace(0, 1, 5)
    expected = inpca.trajectory_distances(own, s, metric="jeffreys").integrated
    assert jeffreys.trajectories.integrated == pytest.approx(expected)
    widths = inpca.trajectories.tube_widths(own, None, s, metric="jeffreys").widths
    assert jeffreys.tubes.widths == pytest.approx(widths)


def test_stored_trajectories__are_taken_only_if_they_are_of_the_same(ensemble, tmp_path):
    from inpca.store.trajectories import trajectories_path

    place = trajectories_path(ensemble.path, "train")
    inpca.trajectory_distances(ensemble, 4, metric="hellinger2", out=place)
    try:
        assert len(Subject(ensemble).trajectories.s) == 25
        inpca.trajectory_distances(ensemble, 4, out=place, restart=True)
        assert len(Subject(ensemble).trajectories.s) == 4
        assert len(Subject(ensemble, settings=Settings(points=6)).trajectories.s) == 6
        one = Settings(select="architecture == 'fc'")
        assert len(Subject(ensemble, settings=one).trajectories) == 4
    finally:
        shutil.rmtree(place)


def test_shares__are_refused_for_other_divergences(jeffreys):
    assert "shares" not in available(jeffreys)
    with pytest.raises(InputError, match="not of 'jeffreys'"):
        draw("shares", jeffreys)


def test_pictures_of_trainings__say_the_unit_of_the_divergence(ensemble):
    view = inpca.open_ensemble(ensemble.path).with_references()
    matrix = inpca.pairwise_distances(view, metric="geodesic2", out=view.distances_path("angle"))
    inpca.InPCA(3).fit(matrix).save(view.embeddings_path("angle"))
    subject = Subject(ensemble, "angle", settings=Settings(points=4))
    labels = [ax.get_ylabel() for ax in draw("tubes", subject).axes]
    assert labels == ["width of the tube, radians²", "distance to the geodesic, radians²"]
    assert "radians²" in draw("dendrogram", subject).axes[0].get_ylabel()


def test_page__names_the_divergence(jeffreys, tmp_path):
    from inpca.plotting.page import interactive_page

    path = interactive_page(tmp_path / "page.html", jeffreys.embedding, jeffreys.models)
    text = path.read_text("utf-8")
    assert "is Jeffreys&#x27; divergence, in nats per sample" in text
    assert "Bhattacharyya" not in text.split("<script")[0]


def test_every_divergence__has_words():
    for metric in (*DIVERGENCES, "chernoff:0.3", "renyi:0.3"):
        assert divergence_words(metric).startswith(("the ", "Jeffreys'"))


# --- what pictures are told ------------------------------------------------------------------


def test_counts_with_nothing_away__say_how_far_the_farthest_is(ensemble):
    subject = Subject(ensemble, settings=Settings(away=5))
    assert "counts" not in available(subject)
    far = ensemble.models["train_loss"].max() / 2
    with pytest.raises(InputError, match=f"more than 5 nats .* farthest is at {far:.3g}"):
        draw("counts", subject)


def test_option_that_a_picture_does_not_heed__is_refused_by_name():
    with pytest.raises(InputError, match=r"`--away` says nothing to the picture 'pairs'.*counts"):
        refuse_unheeded("pairs", ["select", "away"])
    with pytest.raises(InputError, match="`--color` says nothing to the picture 'spectrum'"):
        refuse_unheeded("spectrum", ["color"])
    for name, picture in GALLERY.items():
        refuse_unheeded(name, picture.heeds)


def test_color_that_tells_no_configurations_apart__is_refused(ensemble):
    with pytest.raises(InputError, match=r"'tubes' must be a setting .*architecture.*'train_loss'"):
        check_color("tubes", Subject(ensemble, color="train_loss"))
    check_color("tubes", Subject(ensemble, color="optimizer"))
    check_color("pairs", Subject(ensemble, color="train_loss"))


@pytest.mark.parametrize("name", [one for one, p in GALLERY.items() if "select" in p.heeds])
def test_selected_models__alone_are_drawn(ensemble, name):
    settings = Settings(select="optimizer == 'sgd' or architecture == 'cnn'", away=0.3, points=4)
    subject = Subject(ensemble, settings=settings)
    figure = draw(name, subject)
    figure.draw_without_rendering()
    assert set(subject.own.models["optimizer"] + subject.own.models["architecture"]) == {
        "sgdfc",
        "sgdcnn",
        "adamcnn",
    }
    assert len(subject.shown.embedding_) == len(subject.own.models) + 2
    place = subject.models.index.get_indexer(subject.shown_models.index)
    assert np.array_equal(subject.shown.embedding_, subject.embedding.embedding_[place])


def test_selection_that_leaves_nothing__is_refused(ensemble):
    with pytest.raises(InputError, match="nobody"):
        draw("pairs", Subject(ensemble, settings=Settings(select="architecture == 'nobody'")))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"away": -1.0}, "`away` must be a positive number"),
        ({"within": float("nan")}, "`within` must be"),
        ({"at": (0.3, 0.3)}, "`at` must be two different values"),
        ({"points": 1}, "`points` must be at least 2"),
    ],
)
def test_settings_out_of_range__are_refused(wrong, words):
    with pytest.raises(InputError, match=words):
        Settings(**wrong)


def test_four_points__lie_on_the_coordinates_of_the_same_sign(subject):
    figure = draw("four-point", subject)
    left = figure.subfigs[0].get_suptitle()
    assert "aligned to coordinates" in left
    assert "RMSD" in left
    four, whole = subject.four_point.embedding.signature_, subject.embedding.signature_
    mine, theirs = counterparts(four, whole)
    assert (four[mine] == whole[theirs]).all()
    for panel in figure.subfigs:
        ax = panel.axes[0]
        words = [axis.get_label_text() for axis in (ax.xaxis, ax.yaxis, ax.zaxis)]
        for place, number in zip(mine, theirs):
            assert f"coordinate {number + 1} (" in words[place]


def test_held_trajectories__are_counted_in_the_picture(subject):
    n_held = int((subject.trajectories.outside > 0).sum())
    assert n_held > 0
    for name in ("dendrogram", "trajectories", "importance"):
        assert draw(name, subject).get_suptitle().startswith(f"{n_held} of 8 runs do not reach")


def test_plot_verb__hands_its_options_to_the_picture(ensemble, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = {}

    def draw_nothing(name, subject):
        told.update(vars(subject.settings), bar=subject.progress)
        return pyplot.figure()

    monkeypatch.setattr("inpca.plotting.gallery.draw", draw_nothing)
    runner = CliRunner()
    options = ["four-point", "--at", "0.2,0.8", "--sigma", "0.1", "-q"]
    assert runner.invoke(app, ["plot", str(ensemble.path), *options]).output == "four-point.png\n"
    assert (told["at"], told["sigma"]) == ((0.2, 0.8), 0.1)
    assert callable(told["bar"])  # one bar for all that is computed
    for options, words in (
        (["pairs", "--away", "1"], "`--away` says nothing to the picture 'pairs'"),
        (["page", "--points", "9"], "`--points` says nothing to the page"),
        (["explained", "--at", "0.2"], "`--at` must be two values"),
    ):
        error = runner.invoke(app, ["plot", str(ensemble.path), *options]).exception
        assert isinstance(error, InputError)
        assert words in str(error)
