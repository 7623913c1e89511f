"""Recording scikit-learn classifiers: class columns, labels, loops."""

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Perceptron, SGDClassifier
from sklearn.naive_bayes import GaussianNB

import inpca
from collectors.schedule import every, paper_steps
from collectors.sklearn import (
    SklearnRecorder,
    class_indices,
    predict_probs,
    record_estimator,
    record_partial_fit,
)
from inpca import InputError


@pytest.fixture
def samples():
    random = np.random.default_rng(0)
    y = np.repeat(["cat", "dog", "owl"], 20)
    X = random.normal(size=(60, 4)) + 2 * np.eye(4)[np.unique(y, return_inverse=True)[1]]
    return X, y


def test_record_estimator__stores_its_probabilities_as_one_checkpoint(tmp_path, samples):
    X, y = samples
    model = LogisticRegression().fit(X, y)
    record_estimator(model, tmp_path / "e", "logistic", {"train": (X, y)}, config={"C": 1.0})
    ensemble = inpca.open_ensemble(tmp_path / "e")
    log_p = ensemble.run("logistic").log_probs("train", 0)
    np.testing.assert_allclose(np.exp(log_p), model.predict_proba(X), atol=1e-6)
    row = ensemble.models.loc["logistic/0"]
    assert row["architecture"] == "LogisticRegression"
    assert row["train_error"] == pytest.approx(1 - model.score(X, y))
    assert ensemble.sample_sets["train"].labels.tolist() == [0] * 20 + [1] * 20 + [2] * 20


def test_predict_probs__a_class_not_seen_has_probability_zero(samples):
    X, y = samples
    seen = y != "dog"
    model = RandomForestClassifier(5, random_state=0).fit(X[seen], y[seen])
    probs = predict_probs(model, X, np.array(["cat", "dog", "owl"]))
    assert probs.shape == (60, 3)
    assert not probs[:, 1].any()
    np.testing.assert_array_equal(probs[:, [0, 2]], model.predict_proba(X))


def test_predict_probs__columns_follow_the_classes_given(samples):
    X, y = samples
    model = GaussianNB().fit(X, y)
    probs = predict_probs(model, X, np.array(["owl", "cat", "dog"]))
    np.testing.assert_array_equal(probs, model.predict_proba(X)[:, [2, 0, 1]])


def test_class_indices__finds_each_label_in_unsorted_classes():
    classes = np.array([7, 3, 5])
    assert class_indices([3, 5, 7, 3], classes, "y").tolist() == [1, 2, 0, 1]


def test_recorder__refuses_a_label_that_is_no_class(tmp_path, samples):
    X, y = samples
    with pytest.raises(InputError, match=r"Label .*owl.* in sample set 'train' is none of the 2"):
        SklearnRecorder(tmp_path / "e", "a", sample_sets={"train": (X, y)}, classes=["cat", "dog"])


def test_step__refuses_an_estimator_that_knows_another_class(tmp_path, samples):
    X, y = samples
    model = GaussianNB().fit(X, np.where(y == "owl", "eel", y))
    with (
        SklearnRecorder(tmp_path / "e", "a", sample_sets={"train": (X, y)}) as recorder,
        pytest.raises(InputError, match=r"Label .*eel.* in GaussianNB.classes_"),
    ):
        recorder.step(model, step=0, epoch=0)


def test_step__refuses_an_estimator_without_probabilities(tmp_path, samples):
    X, y = samples
    with pytest.raises(InputError, match="Perceptron has no `predict_proba`; choose a loss"):
        record_estimator(Perceptron().fit(X, y), tmp_path / "e", "a", {"train": (X, y)})
    assert not (tmp_path / "e").exists()


def test_record_partial_fit__gives_the_estimator_that_the_plain_loop_gives(tmp_path, samples):
    X, y = samples
    sets = {"train": (X, y), "test": (X[::3], y[::3])}
    model = SGDClassifier(loss="log_loss", random_state=0)
    record_partial_fit(
        model, tmp_path / "e", "sgd", sets, epochs=3, batch_size=20, schedule=every(1)
    )
    plain, random = SGDClassifier(loss="log_loss", random_state=0), np.random.default_rng(0)
    for _ in range(3):
        for batch in np.split(random.permutation(60), 3):
            plain.partial_fit(X[batch], y[batch], classes=np.unique(y))
    np.testing.assert_array_equal(model.coef_, plain.coef_)
    table = inpca.open_ensemble(tmp_path / "e").models
    assert table["step"].tolist() == list(range(1, 10))
    np.testing.assert_allclose(table["epoch"], np.arange(1, 10) / 3)
    assert table["test_error"].iloc[-1] == pytest.approx(1 - plain.score(X[::3], y[::3]))


def test_record_partial_fit__paper_schedule_knows_the_length(tmp_path, samples):
    X, y = samples
    record_partial_fit(GaussianNB(), tmp_path / "e", "nb", {"train": (X, y)}, batch_size=8)
    steps = inpca.open_ensemble(tmp_path / "e").models["step"].tolist()
    assert steps == paper_steps(batches_per_epoch=8, epochs=20)[1:]


def test_record_partial_fit__refuses_an_estimator_fitted_as_a_whole(tmp_path, samples):
    with pytest.raises(InputError, match=r"no `partial_fit`; use record_estimator"):
        record_partial_fit(LogisticRegression(), tmp_path / "e", "a", {"train": samples})


def test_record_partial_fit__refuses_an_unknown_training_set(tmp_path, samples):
    with pytest.raises(InputError, match="`train` must name one of the sample sets test"):
        record_partial_fit(GaussianNB(), tmp_path / "e", "a", {"test": samples})


def test_recorder__refuses_classes_named_twice(tmp_path, samples):
    with pytest.raises(InputError, match="`classes` must list each class once"):
        SklearnRecorder(tmp_path / "e", "a", sample_sets={"train": samples}, classes=["cat", "cat"])


@pytest.mark.parametrize("name", ["epochs", "batch_size"])
@pytest.mark.parametrize("wrong", [2.5, "3", 0])
def test_record_partial_fit__names_a_length_that_is_no_whole_number(tmp_path, samples, name, wrong):
    with pytest.raises(InputError, match=f"`{name}` must be"):
        record_partial_fit(
            SGDClassifier(loss="log_loss"),
            tmp_path / "e",
            "a",
            {"train": samples},
            schedule="epochs",
            **{name: wrong},
        )
