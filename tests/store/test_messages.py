"""Errors say the cure in Python and on the command line, and what there is to choose from."""

import re

import numpy as np
import pytest

import inpca
from inpca import DamagedStoreError, InputError, ResourceError, TiledMatrix
from inpca.store.embedding import read_embedding, write_embedding


@pytest.fixture
def matrix(recorded):
    return inpca.pairwise_distances(recorded, out=recorded.distances_path("train"))


def test_open_ensemble__of_something_else_says_what_makes_one(tmp_path):
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(InputError, match=r"Check the path; create_ensemble, or `inpca import`"):
            inpca.open_ensemble(path)


def test_open_matrix__that_is_not_there_names_the_cure_and_the_others(recorded, matrix):
    cure = r"pairwise_distances\(…, out=…\), or `inpca distances ENSEMBLE`"
    with pytest.raises(InputError, match=cure + ".*distances holds train"):
        TiledMatrix.open(recorded.distances_path("tests"))


def test_open_matrix__where_there_is_no_folder_at_all_holds_none(tmp_path):
    with pytest.raises(InputError, match="holds none"):
        TiledMatrix.open(tmp_path / "no" / "matrix.zarr")


def test_read_embedding__that_is_not_there_names_the_cure_and_the_others(recorded):
    write_embedding(recorded.embeddings_path("a"), {"eigenvalues": np.ones(1)}, None, {})
    with pytest.raises(InputError, match=r"`inpca embed ENSEMBLE`.*embeddings holds a\."):
        read_embedding(recorded.embeddings_path("b"))


def test_damaged_tile__is_cured_in_python_and_on_the_command_line(matrix):
    matrix.remove_tile((0, 0))
    cure = "compute it again (pairwise_distances(…, repair=True), or `inpca distances ENSEMBLE"
    with pytest.raises(DamagedStoreError, match=re.escape(cure)):
        matrix.read_tile((0, 0))
    assert "remove" not in matrix.verify()[0].reason


def test_damaged_root_of_a_matrix__is_cured_by_what_the_error_says(recorded, matrix):
    expected = matrix.to_array()
    (matrix.path / "zarr.json").write_text('{"attributes": {"inpca": {"kind": "matrix", '
        '"format_version": 1}}, "consolidated_metadata": {"metadata": {}}}')  # fmt: skip
    with pytest.raises(DamagedStoreError, match=r"restart=True\), or `inpca distances ENSEMBLE"):
        TiledMatrix.open(matrix.path)
    again = inpca.pairwise_distances(recorded, out=matrix.path, restart=True)
    np.testing.assert_array_equal(again.to_array(), expected)


@pytest.mark.parametrize("content", ["{", "[]", '{"attributes": {}}'])
def test_unreadable_root_of_a_matrix__is_cured_by_restart_and_no_copy(recorded, matrix, content):
    (matrix.path / "zarr.json").write_text(content)
    with pytest.raises(DamagedStoreError, match="`inpca distances ENSEMBLE --restart`") as raised:
        inpca.pairwise_distances(recorded, out=matrix.path, repair=True)
    assert "copy" not in str(raised.value)
    again = inpca.pairwise_distances(recorded, out=matrix.path, restart=True)
    assert again.complete


def test_matrix_of_something_else__is_cured_in_python_and_on_the_command_line(recorded, matrix):
    less = recorded.select("run == 'cnn'")
    cure = r"pass restart=True \(--restart\) to replace it, or another `out` \(--name\)"
    with pytest.raises(InputError, match=cure):
        inpca.pairwise_distances(less, out=matrix.path)
    with pytest.raises(InputError, match=cure.removeprefix("pass ")):
        inpca.pairwise_distances(recorded, out=matrix.path, resume=False)
    inpca.pairwise_distances(less, out=matrix.path, restart=True)
    more = r"pass extend=True \(--extend\) to compute those alone; or " + cure
    with pytest.raises(InputError, match=more):
        inpca.pairwise_distances(recorded, out=matrix.path)


def test_matrix_that_another_process_writes__is_cured_by_another_name(recorded, matrix):
    with matrix.lock(), pytest.raises(ResourceError, match=r"another `out` \(--name, or"):
        inpca.pairwise_distances(recorded, out=matrix.path)


def test_query_that_selects_nothing__says_where_to_look(recorded):
    with pytest.raises(InputError, match=r"look at ens\.models, or `inpca info ENSEMBLE`"):
        recorded.select("step < 0")


@pytest.mark.parametrize("method", ["distances_path", "embeddings_path"])
def test_name_of_a_result__is_called_name_in_its_error(recorded, method):
    with pytest.raises(InputError, match="`name` must be 1 to 200 letters"):
        getattr(recorded, method)("../up")


def test_predictions_without_a_sample_set__say_how_to_name_it(ensemble, probs):
    with pytest.raises(InputError, match=r"not be a ndarray; pass \{'train': array\}"):
        ensemble.add_run("x", probs(2))
    with (
        ensemble.start_run("x") as writer,
        pytest.raises(InputError, match=r"pass \{'train': array\}"),
    ):
        writer.append(probs(1)[0], "probs", step=0, epoch=0)
    assert ensemble.runs == []


@pytest.mark.parametrize(
    ("labels", "ids", "message"),
    [
        ([0, 1, 1], None, "it has 3 samples, not 4;"),
        ([0, 2, 1, 2], None, r"sample 1 has label 2, not 1 \(2 of 4 differ\);"),
        ([0, 1, 2, 2], ["a", "b", "c", "d"], "its samples have ids, and the others none;"),
    ],
)
def test_other_samples__are_told_by_the_first_that_differs(tmp_path, labels, ids, message):
    inpca.create_ensemble(tmp_path / "e", sample_sets={"train": [0, 1, 2, 2]}, n_classes=3)
    with pytest.raises(InputError, match=message):
        inpca.create_ensemble(
            tmp_path / "e",
            sample_sets={"train": labels},
            ids={"train": ids} if ids else None,
            n_classes=3,
            exist_ok=True,
        )


def test_one__is_no_plural(ensemble, probs):
    wrong = probs(1)
    wrong[0, 3] *= 2
    with pytest.raises(InputError, match=r"\(1 row in all\)"):
        ensemble.add_run("x", {"train": wrong, "test": probs(1, 7)})
