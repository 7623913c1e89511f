"""Processes that die, and processes that come all at once."""

import json

import numpy as np

import inpca

_COMMON = """
import json, os, signal, sys
import numpy as np
import zarr
import inpca
import inpca.store.ensemble  # here, not in each child
N, C = 30, 4
def predictions(seed):
    return {"train": np.random.default_rng(seed).dirichlet(np.ones(C), N)}
"""


def test_append__killed_at_any_fsync__is_committed_whole_or_not_at_all(tmp_path, script):
    # One process imports and forks a child per moment; the child dies at its k-th fsync.
    code = (
        _COMMON
        + """
path = sys.argv[1]
ens = inpca.create_ensemble(path, sample_sets={"train": np.arange(N) % C}, n_classes=C)
with ens.start_run("a") as writer:
    writer.append(predictions(0), "probs", step=0, epoch=0)

def die_at(moment):
    calls, real = [0], os.fsync
    def fsync(descriptor):
        calls[0] += 1
        if calls[0] == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        real(descriptor)
    os.fsync = fsync

seen, moment = [], 0
while True:
    moment += 1
    before = inpca.open_ensemble(path).run("a").n_checkpoints
    child = os.fork()
    if child == 0:
        writer = inpca.open_ensemble(path).start_run("a", resume=True)
        die_at(moment)
        writer.append(predictions(before), "probs", step=before, epoch=0)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    ens = inpca.open_ensemble(path)
    run = ens.run("a")
    assert ens.check() == [], ens.check()
    ens.tidy()
    plain = zarr.open_group(f"{path}/runs/a.zarr", mode="r", use_consolidated=False)
    assert plain["train/log_prob"].shape[0] == plain["step"].shape[0] == run.n_checkpoints
    assert len(ens.models) == run.n_checkpoints
    assert run.step.tolist() == list(range(run.n_checkpoints))
    for index in range(run.n_checkpoints):
        expected = predictions(index)["train"]
        assert np.allclose(np.exp(run.log_probs("train", index)), expected, atol=1e-6)
    seen.append(run.n_checkpoints - before)
    if status == 0:
        break
print(json.dumps(seen))
"""
    )
    seen = json.loads(script(code, tmp_path / "e"))
    assert len(seen) > 10
    assert set(seen[:-1]) == {0, 1}, "some moments come before the commit, some after"
    assert seen[0] == 0
    assert seen[-1] == 1


def test_first_append__killed_before_its_commit__leaves_no_run_and_begins_again(tmp_path, script):
    code = (
        _COMMON
        + """
from inpca import durable
path = sys.argv[1]
ens = inpca.create_ensemble(path, sample_sets={"train": np.arange(N) % C}, n_classes=C)
child = os.fork()
if child == 0:
    real = durable.write_bytes
    def write_bytes(target, data, **options):
        if target.parent.name == "a.zarr":  # the root's zarr.json: the commit
            target.with_name("zarr.json.999.partial").write_bytes(data[:10])
            os.kill(os.getpid(), signal.SIGKILL)
        real(target, data, **options)
    durable.write_bytes = write_bytes
    ens.start_run("a").append(predictions(0), "probs", step=0, epoch=0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
"""
    )
    script(code, tmp_path / "e")
    ensemble = inpca.open_ensemble(tmp_path / "e")
    assert (ensemble.path / "runs" / "a.zarr" / "train" / "log_prob" / "c.0.0.0").exists()
    assert ensemble.runs == []
    assert len(ensemble.models) == 0
    assert ensemble.check() == []
    ensemble.add_run("a", {"train": np.full((2, 30, 4), 0.25)})
    assert ensemble.runs == ["a"]
    assert not list(ensemble.path.rglob("*.partial"))


def test_tidy__removes_leftovers_of_the_dead_but_not_of_a_writer_at_work(recorded):
    for run in ("cnn", "mlp"):
        (recorded.path / "runs" / f"{run}.zarr" / "zarr.json.1.partial").write_bytes(b"x")
    with recorded.start_run("cnn", resume=True):
        at_work = recorded.path / "runs" / "cnn.zarr" / "zarr.json.2.partial"
        at_work.write_bytes(b"x")
        assert recorded.check() == []
        assert len(list(recorded.path.rglob("*.partial"))) == 2, "check only reads"
        recorded.tidy()
        assert list(recorded.path.rglob("*.partial")) == [at_work]


def test_forty_processes__that_create_and_record_at_once__lose_nothing(tmp_path, script):
    code = (
        _COMMON
        + """
path, go = sys.argv[1], os.pipe()
children = []
for index in range(40):
    child = os.fork()
    if child == 0:
        os.close(go[1])
        os.read(go[0], 1)  # returns when the parent closes its end: all start together
        ens = inpca.create_ensemble(
            path, sample_sets={"train": np.arange(N) % C}, n_classes=C, exist_ok=True
        )
        with ens.start_run(f"run-{index}", {"seed": index}) as writer:
            for step in range(2):
                writer.append(predictions(index), "probs", step=step, epoch=step)
        assert len(ens.models) >= 2
        os._exit(0)
    children.append(child)
os.close(go[0]), os.close(go[1])
assert [os.waitpid(child, 0)[1] for child in children] == [0] * 40
"""
    )
    script(code, tmp_path / "e")
    ensemble = inpca.open_ensemble(tmp_path / "e")
    assert len(ensemble.runs) == 40
    assert len(ensemble.models) == 80
    assert sorted(ensemble.models["seed"]) == sorted([*range(40), *range(40)])
    assert ensemble.check() == []


def test_forty_processes__that_want_the_same_run__are_one_writer(tmp_path, script):
    code = (
        _COMMON
        + """
path, go = sys.argv[1], os.pipe()
ens = inpca.create_ensemble(path, sample_sets={"train": np.arange(N) % C}, n_classes=C)
children = []
for index in range(40):
    child = os.fork()
    if child == 0:
        os.close(go[1])
        os.read(go[0], 1)
        try:
            ens.add_run("same", predictions_block(), config={"winner": index})
        except inpca.InputError as error:
            os._exit(1 if "'same'" in str(error) else 2)
        os._exit(0)
    children.append(child)
os.close(go[0]), os.close(go[1])
print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]))
""".replace("predictions_block()", '{"train": predictions(index)["train"][None]}')
    )
    codes = json.loads(script(code, tmp_path / "e"))
    assert sorted(codes) == [0] + [1] * 39
    ensemble = inpca.open_ensemble(tmp_path / "e")
    assert ensemble.run("same").config == {"winner": codes.index(0)}
