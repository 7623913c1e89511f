"""What containers say: masks are refused, names are matched or refused, never dropped."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

import inpca
import inpca.trajectories
from inpca import InputError

Array = NDArray[np.float64]
M = 20
NAMES = [f"model-{i:02d}" for i in range(M)]


def distances(seed: int = 0) -> Array:
    p = np.random.default_rng(seed).dirichlet([1, 1, 1], size=(M, 5))
    return inpca.pairwise_distances(p)


def permuted(seed: int = 1) -> NDArray[np.intp]:
    return np.random.default_rng(seed).permutation(M)


def fit(d: object, **options: object) -> inpca.InPCA:
    return inpca.InPCA(3, metric="precomputed", executor="serial").fit(d, **options)


def frame(d: Array, names: object = NAMES) -> pd.DataFrame:
    return pd.DataFrame(d, index=names, columns=names)


# --- masks -----------------------------------------------------------------------------------


def masked(values: Array, where: tuple[int, ...] | None) -> np.ma.MaskedArray:
    out = np.ma.masked_array(values, mask=np.zeros(values.shape, dtype=bool))
    if where is not None:
        out[where] = np.ma.masked
    return out


def test_masked_entries__are_refused_by_every_way_in() -> None:
    d = distances()
    x = fit(d)
    bad, weights = masked(d, (2, 3)), masked(np.ones(M), (4,))
    arguments = x.embedding_, x.signature_
    with pytest.raises(InputError, match=r"`X` has 1 masked entry, the first at \(2, 3\)"):
        fit(bad)
    with pytest.raises(InputError, match=r"`X` has \d+ masked entr"):
        x.transform(bad)
    with pytest.raises(InputError, match=r"`X` has \d+ masked entr"):
        x.transform(list(bad))
    with pytest.raises(InputError, match=r"`weights` has 1 masked entry, the first at 4"):
        fit(d, weights=weights)
    with pytest.raises(InputError, match=r"`D` has \d+ masked entr"):
        x.join("test", bad)
    with pytest.raises(InputError, match=r"`D` has \d+ masked entr"):
        inpca.explained_pairwise_distances(bad, *arguments)
    with pytest.raises(InputError, match=r"`embedding` has \d+ masked entr"):
        inpca.explained_pairwise_distances(d, masked(arguments[0], (0, 0)), arguments[1])
    with pytest.raises(InputError, match=r"`weights` has \d+ masked entr"):
        inpca.explained_pairwise_distances(d, *arguments, weights=weights)
    with pytest.raises(InputError, match=r"`X` has \d+ masked entr"):
        inpca.align(masked(arguments[0], (0, 0)), *arguments)


def test_mask_that_hides_nothing__is_fine() -> None:
    d = distances()
    plain, ours = fit(d), fit(masked(d, None), weights=masked(np.ones(M), None))
    assert ours.embedding_ == pytest.approx(plain.embedding_, abs=1e-12)
    assert plain.transform(masked(d, None)) == pytest.approx(plain.embedding_, abs=1e-12)
    assert plain.join("test", masked(d, None)) == pytest.approx(plain.embedding_, abs=1e-12)


# --- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [NAMES, list(range(10, 10 + M)), list(range(M))])
def test_columns_of_a_distance_table__are_matched_to_its_rows(names: list[object]) -> None:
    d = distances()
    table = frame(d, names)
    ours = fit(table.iloc[:, permuted()])
    assert ours.embedding_ == pytest.approx(fit(d).embedding_, abs=1e-12)
    # Rows in another order are models in another order.
    rows = permuted(2)
    ours = fit(table.iloc[rows])
    assert ours.transform(table) == pytest.approx(ours.embedding_[np.argsort(rows)], abs=1e-9)


@pytest.mark.parametrize("names", [NAMES, list(range(10, 10 + M)), list(range(M))])
def test_columns_of_new_distances__are_matched_to_the_training_models(
    names: list[object], tmp_path: Path
) -> None:
    d = distances()
    embedding = fit(frame(d, names))
    new = frame(d, names).iloc[:7]
    assert embedding.transform(new.iloc[:, permuted()]) == pytest.approx(
        embedding.embedding_[:7], abs=1e-9
    )
    embedding.save(tmp_path / "e.zarr")
    loaded = inpca.load_embedding(tmp_path / "e.zarr")
    assert loaded.transform(new.iloc[:, permuted()]) == pytest.approx(
        embedding.embedding_[:7], abs=1e-9
    )


def test_names_of_rows_or_columns_alone__are_the_models_names() -> None:
    d = distances()
    new = frame(d).iloc[:3, permuted()]
    for table in (pd.DataFrame(d, index=NAMES), pd.DataFrame(d, columns=NAMES)):
        embedding = fit(table)
        assert embedding.transform(new) == pytest.approx(embedding.embedding_[:3], abs=1e-9)


def test_array_fitted__takes_permuted_positions_but_no_names() -> None:
    d = distances()
    embedding = fit(d)
    new = pd.DataFrame(d[:4]).iloc[:, permuted()]
    assert embedding.transform(new) == pytest.approx(embedding.embedding_[:4], abs=1e-9)
    with pytest.raises(InputError, match="the models have no names"):
        embedding.transform(pd.DataFrame(d[:4], columns=NAMES))


def test_other_names__are_refused() -> None:
    d = distances()
    other = [*NAMES[:-1], "stranger"]
    with pytest.raises(InputError, match="'stranger' is none of them"):
        fit(pd.DataFrame(d, index=NAMES, columns=other))
    with pytest.raises(InputError, match="'stranger' is none of them"):
        fit(frame(d)).transform(frame(d, other))
    with pytest.raises(InputError, match="'stranger' is none of them"):
        fit(frame(d)).join("test", frame(d, other))
    with pytest.raises(InputError, match="'model-00' is there more than once"):
        fit(frame(d)).transform(frame(d, [NAMES[0], *NAMES[:-1]]))


def test_names_of_an_ensembles_models__match_new_distances(
    small_ensemble: inpca.Ensemble,
) -> None:
    embedding = inpca.InPCA(3).fit(small_ensemble)
    keys = small_ensemble.models.index
    d = pd.DataFrame(inpca.pairwise_distances(small_ensemble), index=keys, columns=keys)
    order = np.random.default_rng(0).permutation(len(keys))
    assert embedding.transform(d.iloc[:, order]) == pytest.approx(embedding.embedding_, abs=1e-6)
    assert embedding.join("again", d.iloc[order, order]) == pytest.approx(
        embedding.embedding_, abs=1e-6
    )
    with pytest.raises(InputError, match="is none of them"):
        embedding.transform(d.rename(columns=str.upper))


def test_table_of_other_samples__is_joined_by_name() -> None:
    d, other = distances(), distances(5)
    embedding = fit(frame(d))
    expected = fit(d).join("test", other)
    order = permuted()
    assert embedding.join("test", frame(other).iloc[order]) == pytest.approx(expected, abs=1e-9)
    assert embedding.join("test", frame(other).iloc[order, order]) == pytest.approx(
        expected, abs=1e-9
    )


def test_explained_distances__match_tables_by_name() -> None:
    d, order = distances(), permuted()
    x = fit(d)
    expected = inpca.explained_pairwise_distances(
        d, x.embedding_, x.signature_, weights=np.arange(M)
    )
    ours = inpca.explained_pairwise_distances(
        frame(d).iloc[:, order],
        pd.DataFrame(x.embedding_, index=NAMES).iloc[order],
        x.signature_,
        weights=pd.Series(np.arange(M), index=NAMES).iloc[order],
    )
    assert ours == pytest.approx(expected, rel=1e-12)


def test_weights_by_name__are_matched_or_refused() -> None:
    d, order = distances(), permuted()
    counts = np.arange(1.0, M + 1)
    expected = fit(d, weights=counts).embedding_
    for names, table in ((NAMES, frame(d)), (None, d), (None, frame(d))):
        series = pd.Series(counts, index=names)
        if names is not None or table is d:
            series = series.iloc[order]
        ours = fit(table, weights=series)
        assert ours.embedding_ == pytest.approx(expected, abs=1e-12)
        assert ours.weights_.tolist() == counts.tolist()
    with pytest.raises(InputError, match="have none; give an array"):
        fit(d, weights=pd.Series(counts, index=NAMES))
    with pytest.raises(InputError, match="that of model 'model-19' is nan"):
        fit(frame(d), weights=pd.Series(counts[:-1], index=NAMES[:-1]))
    with pytest.raises(InputError, match="'model-00' is there more than once"):
        fit(frame(d), weights=pd.Series(counts, index=[NAMES[0], *NAMES[:-1]]))


def test_data_arrays__are_read_as_tables() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        xarray = pytest.importorskip("xarray")
    d, order = distances(), permuted()
    array = xarray.DataArray(d, dims=("model", "other"), coords={"model": NAMES, "other": NAMES})
    embedding = fit(array[:, order], weights=xarray.DataArray(
        np.arange(M), dims=("model",), coords={"model": NAMES})[order])  # fmt: skip
    expected = fit(d, weights=np.arange(M)).embedding_
    assert embedding.embedding_ == pytest.approx(expected, abs=1e-12)
    assert embedding.transform(array[:5, order]) == pytest.approx(expected[:5], abs=1e-9)
    assert embedding.join("test", array[order, :][:, order]) == pytest.approx(expected, abs=1e-9)


def test_curve_distances__heed_masks_and_names_of_distances() -> None:
    d = distances()
    runs = np.repeat([0, 1], M // 2)
    _, expected = inpca.trajectories.curve_distances(d, runs)
    _, ours = inpca.trajectories.curve_distances(frame(d).iloc[:, permuted()], runs)
    assert (ours == expected).all()
    with pytest.raises(InputError, match=r"`D` has \d+ masked entr"):
        inpca.trajectories.curve_distances(masked(d, (0, 1)), runs)
    with pytest.raises(InputError, match=r"`D` has \d+ masked entr"):
        inpca.trajectories.frechet_distance(masked(d, (0, 1)))
