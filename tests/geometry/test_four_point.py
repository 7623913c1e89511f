"""The embedding of four points: what they are, where models land, and how it is saved."""

import math
from pathlib import Path

import naive
import numpy as np
import pytest
from numpy.typing import NDArray

import inpca
from inpca import InputError
from inpca.geometry.four_point import four_point, gaussian_weights

Array = NDArray[np.float64]
GOLDEN = Path(__file__).parents[1] / "golden" / "reference_small.npz"
NEAR = {"at": (0.2, 0.5), "sigma": 0.1, "executor": "serial"}


@pytest.fixture(scope="module")
def golden() -> dict[str, Array]:
    """Inputs and outputs of the published code (see tests/golden/README.md)."""
    with np.load(GOLDEN) as file:
        return {name: file[name] for name in file}


def by_definition(p: Array, labels: Array, s: Array, at: tuple[float, float], sigma: float):
    """The four points as probabilities (4, N, C), by Eq. 11 as printed."""
    points = [np.full(p.shape[1:], 1 / p.shape[2]), np.eye(p.shape[2])[labels]]
    for one in at:
        weights = np.exp(-((s - one) ** 2) / (2 * sigma**2))
        points.append(np.einsum("w,wnc->nc", weights, p) / weights.sum())
    return np.array(points)


def test_four_points__are_those_of_equation_11(golden: dict[str, Array]) -> None:
    p, labels = golden["predictions"], golden["labels"]
    found = four_point(p, labels, **NEAR)
    assert found.progress == pytest.approx(golden["progress"], abs=2e-5)
    points = by_definition(p, labels, found.progress, NEAR["at"], NEAR["sigma"])
    d = naive.distance(naive.log_probs(points))
    x, values = naive.embedding(d, 3)
    assert found.embedding.eigenvalues_ == pytest.approx(values[:3], abs=1e-9)
    signs = np.sign((x * found.embedding.embedding_).sum(axis=0))
    assert found.embedding.embedding_ == pytest.approx(x * signs, abs=1e-7)
    to_points = naive.distance(naive.log_probs(p), naive.log_probs(points))
    assert found.coordinates == pytest.approx(naive.project(to_points, d, 3) * signs, abs=1e-7)


def test_stored_averages__take_no_part_in_the_averages(small_ensemble: inpca.Ensemble) -> None:
    before = four_point(small_ensemble, **NEAR).embedding.eigenvalues_
    inpca.average_groups(small_ensemble, ["architecture", "step"])
    found = four_point(inpca.open_ensemble(small_ensemble.path), **NEAR)
    assert found.embedding.eigenvalues_ == pytest.approx(before, rel=1e-12)
    assert len(found.coordinates) == 36


def test_four_points__lie_where_all_models_of_weight_zero_would_put_them(
    golden: dict[str, Array],
) -> None:
    p, labels = golden["predictions"], golden["labels"]
    found = four_point(p, labels, **NEAR)
    points = by_definition(p, labels, found.progress, NEAR["at"], NEAR["sigma"])
    d = inpca.pairwise_distances(np.concatenate([points, p]))
    weights = np.r_[np.ones(4), np.zeros(len(p))]
    weighted = inpca.InPCA(3, metric="precomputed").fit(d, weights=weights)
    assert weighted.embedding_[4:] == pytest.approx(found.coordinates, abs=1e-6)
    assert weighted.embedding_[:4] == pytest.approx(found.embedding.embedding_, abs=1e-6)


def test_four_points__explain_most_of_the_distances(golden: dict[str, Array]) -> None:
    found = four_point(golden["predictions"], golden["labels"], **NEAR)
    explained = inpca.explained_pairwise_distances(
        golden["distance"], found.coordinates, found.embedding.signature_
    )
    assert explained[-1] > 0.8


def test_known_progress__is_taken_as_it_is(golden: dict[str, Array]) -> None:
    p, labels = golden["predictions"], golden["labels"]
    found = four_point(p, labels, **NEAR)
    again = four_point(p, labels, s=found.progress, **NEAR)
    assert again.coordinates == pytest.approx(found.coordinates, rel=1e-12, abs=1e-13)


def test_ensemble__is_read_from_disk_and_its_references_do_not_count(
    small_ensemble: inpca.Ensemble,
) -> None:
    source = small_ensemble.predictions("train")
    array = source.read(slice(0, 24), slice(0, 40))
    labels = small_ensemble.sample_sets["train"].labels
    ours = four_point(small_ensemble.with_references(), **NEAR)
    theirs = four_point(array, labels, kind="log_probs", **NEAR)
    assert ours.coordinates[2:] == pytest.approx(theirs.coordinates, abs=1e-6)
    assert ours.coordinates[:2] == pytest.approx(ours.embedding.embedding_[:2], abs=1e-6)
    assert ours.models is not None
    assert ours.models.index[:2].tolist() == ["@ignorance", "@truth"]
    assert ours.embedding.models_.index.tolist() == [
        "@ignorance", "@truth", "@progress-0.2", "@progress-0.5"
    ]  # fmt: skip


def test_saved_with_its_points__projects_any_model_when_loaded(
    small_ensemble: inpca.Ensemble, tmp_path: Path
) -> None:
    found = four_point(small_ensemble, **NEAR)
    found.embedding.save(tmp_path / "four.zarr", with_training=True)
    loaded = inpca.load_embedding(tmp_path / "four.zarr")
    assert loaded.transform(small_ensemble) == pytest.approx(found.coordinates, abs=1e-12)
    assert loaded.models_.index.equals(found.embedding.models_.index)
    loaded.save(tmp_path / "again.zarr")
    again = inpca.load_embedding(tmp_path / "again.zarr")
    assert again.transform(small_ensemble) == pytest.approx(
        loaded.transform(small_ensemble), rel=1e-12, abs=1e-13
    )
    other = inpca.create_ensemble(
        tmp_path / "other.ensemble", sample_sets={"train": np.zeros(40, int)}, n_classes=3
    )
    other.add_run("run-9", {"train": np.full((2, 40, 3), 1 / 3)})
    with pytest.raises(InputError, match="other samples, or another order"):
        loaded.transform(other)


def test_saved_without_its_points__says_what_to_pass(
    small_ensemble: inpca.Ensemble, tmp_path: Path
) -> None:
    four_point(small_ensemble, **NEAR).embedding.save(tmp_path / "four.zarr")
    loaded = inpca.load_embedding(tmp_path / "four.zarr")
    with pytest.raises(InputError, match=r"pass the distances .* \(new models, 4\)"):
        loaded.transform(small_ensemble)


def test_points_beyond_memory__are_not_written_with_the_embedding(
    small_ensemble: inpca.Ensemble, tmp_path: Path
) -> None:
    embedding = four_point(small_ensemble, **NEAR).embedding.set_params(memory=1000)
    with pytest.raises(inpca.ResourceError, match=r"writes 1\.9 kB .* but `memory` is 1\.0 kB"):
        embedding.save(tmp_path / "four.zarr", with_training=True)


def test_gaussian_weights__are_those_of_equation_11_up_to_a_factor() -> None:
    s = np.linspace(0, 1, 30)
    weights = gaussian_weights(s, 0.31, 0.05)
    expected = np.exp(-((s - 0.31) ** 2) / (2 * 0.05**2))
    kept = weights > 0
    assert weights[kept] / weights.sum() == pytest.approx(expected[kept] / expected.sum())
    assert expected[~kept].sum() < 1e-17
    assert weights.max() == 1


# --- bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"at": (0.2, 1.2)}, r"`at` must be two different values of progress in \[0, 1\]"),
        ({"at": (0.2, 0.2)}, "two different values"),
        ({"at": (0.2, math.nan)}, "two different values"),
        ({"at": (0.2,)}, "two different values"),
        ({"sigma": 0}, "`sigma` must be positive"),
        ({"sigma": math.inf}, "`sigma` must be positive"),
        ({"at": (0.2, 0.999), "sigma": 1e-4}, r"no model has a progress within 4 σ of 0\.\d+"),
        ({"labels": None}, "an Ensemble has them"),
        ({"labels": [9] * 48}, "`labels` must be classes 0 … 5"),
        ({"s": [0.5]}, "progress of each of the 60 models"),
        ({"s": [1.5] * 60}, r"in \[0, 1\]"),
        ({"n_components": 4}, "`n_components` must be an integer in 1 … 3"),
    ],
    ids=lambda value: None if isinstance(value, str) else "-".join(value),
)
def test_bad_arguments__are_refused(
    golden: dict[str, Array], options: dict[str, object], message: str
) -> None:
    arguments = {"labels": golden["labels"], **NEAR, **options}
    with pytest.raises(InputError, match=message):
        four_point(golden["predictions"], **arguments)
