"""`inpca delete`: asks first, looks at every run before the first is gone."""

import pytest
from typer.testing import CliRunner

import inpca
from inpca.cli import app


def call(*arguments: object, answer: str | None = None):
    return CliRunner().invoke(app, ["delete", *map(str, arguments)], input=answer)


def test_delete__with_yes_deletes_the_runs_and_check_is_clean(small_ensemble: inpca.Ensemble):
    inpca.pairwise_distances(small_ensemble, out=small_ensemble.distances_path("train"))
    done = call(small_ensemble.path, "run-0", "run-2", "run-0", "--yes")
    assert done.exit_code == 0
    assert small_ensemble.runs == ["run-1", "run-3"]
    assert CliRunner().invoke(app, ["check", str(small_ensemble.path), "--quiet"]).exit_code == 0


def test_delete__asks_before(small_ensemble: inpca.Ensemble):
    assert call(small_ensemble.path, "run-0", answer="y\n").exit_code == 0
    assert small_ensemble.runs == ["run-1", "run-2", "run-3"]


@pytest.mark.parametrize("answer", ["n\n", "\n", None])
def test_delete__without_a_yes_deletes_nothing(small_ensemble: inpca.Ensemble, answer):
    done = call(small_ensemble.path, "run-0", answer=answer)
    assert isinstance(done.exception, inpca.InputError)
    assert "--yes" in str(done.exception)
    assert len(small_ensemble.runs) == 4


def test_delete__of_an_unknown_run_deletes_none_of_them(small_ensemble: inpca.Ensemble):
    done = call(small_ensemble.path, "run-0", "run-9", "--yes")
    assert isinstance(done.exception, inpca.InputError)
    assert "'run-9' is none" in str(done.exception)
    assert len(small_ensemble.runs) == 4
