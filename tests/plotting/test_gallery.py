"""Every picture by its name, drawn from an ensemble on disk."""

import numpy as np
import pytest
from matplotlib import pyplot

import inpca
from inpca.errors import InputError
from inpca.plotting.gallery import GALLERY, available, draw, too_heavy
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
    return Subject(ensemble)


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
