"""Every kernel of the package, run on the CPU thread by thread, agrees with float64."""

import re
from pathlib import Path

import numpy as np
import pytest
from emulator import missing_tools
from emulator.build import CUDA
from emulator.card import Engine
from emulator.oracle import (
    affinities,
    agrees,
    distances,
    lost_pairs_bounds,
    one_hot,
    predictions,
    roots,
)
from fake_cupy import array

pytestmark = pytest.mark.skipif(missing_tools() is not None, reason=str(missing_tools()))

SEEDS = [0, 1, 2, 3]
CLASSES = [2, 3, 10, 17, 100]
PATHS = [
    *(("ffma", c) for c in CLASSES),
    *(("tensor", c) for c in CLASSES),
    ("batched", 10),
    ("batched", 100),
]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("path", "n_classes"), PATHS)
def test_tiles__agree_with_float64(path, n_classes, seed):
    log_prob = predictions(45, 11, n_classes)
    engine = Engine(n_classes, path, seed=seed)
    assert agrees(engine.distances(log_prob), distances(log_prob))
    assert (engine.total.floored, engine.total.redone, engine.lost_pairs) == (0, 0, 0)


@pytest.mark.parametrize("seed", SEEDS[2:])
@pytest.mark.parametrize("path", ["ffma", "tensor", "batched"])
def test_tiles__agree_when_samples_stream_past_several_tiles(path, seed):
    log_prob = predictions(131, 83, 10)  # longer than what float32 sums before it flushes
    engine = Engine(10, path, slabs=2, seed=seed)
    assert agrees(engine.distances(log_prob), distances(log_prob))


@pytest.mark.parametrize("seed", SEEDS)
def test_tensor_tiles__agree_with_wide_blocks_in_large_tiles(seed):
    log_prob = predictions(300, 3, 10)
    engine = Engine(10, "tensor", tile_size=256, seed=seed)
    assert agrees(engine.distances(log_prob), distances(log_prob))


@pytest.mark.parametrize("path", ["ffma", "tensor", "batched"])
def test_tiles__find_their_models_in_slabs_of_other_models(path):
    log_prob = predictions(384, 5, 3)
    with Engine(3, path).accumulator([(1, 2)], 5) as total:
        rows, cols = (
            total.prepare(array(log_prob[first : first + 128]), first) for first in (128, 256)
        )
        total.add(rows, cols)
        got = total.finish()[0]
    expected = -np.log(affinities(log_prob)).mean(-1)
    assert agrees(got, expected[128:256, 256:])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("path", ["ffma", "tensor", "batched"])
@pytest.mark.parametrize("n_classes", [3, 10, 30])
def test_tiles__floor_what_is_saturated(path, n_classes, seed):
    log_prob = np.concatenate(
        [one_hot(10, 11, n_classes)]
        + [predictions(10, 11, n_classes, sharpness=sharp) for sharp in (8, 20, 60)]
    )
    engine = Engine(n_classes, path, seed=seed)
    got = engine.distances(log_prob)
    assert agrees(got, distances(log_prob))
    assert got.max() < 62 * np.log(2)
    must, may = lost_pairs_bounds(log_prob, 128) if path == "tensor" else (0, 0)
    assert must <= engine.lost_pairs <= may
    # Float32 decides the odd entry at the floor's very edge the other way.
    assert abs(engine.total.floored - roots(log_prob)[1]) <= 2


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("wide", [False, True])
def test_tensor_tiles__redo_only_the_patches_that_lost(wide, seed):
    log_prob = predictions(300, 8, 3)
    for shift, model in enumerate((5, 200, 290)):  # these share no class in any sample
        log_prob[model] = np.roll(one_hot(1, 8, 3)[0], shift, axis=-1)
    engine = Engine(3, "tensor", tile_size=256 if wide else 128, seed=seed)
    assert agrees(engine.distances(log_prob), distances(log_prob))
    # Three pairs of models; (5, 200) lies twice in the one large tile on the diagonal.
    assert engine.total.redone == (4 if wide else 3)


@pytest.mark.parametrize("path", ["ffma", "tensor"])
def test_tiles__put_equal_models_at_distance_zero(path):
    log_prob = predictions(70, 9, 10, sharpness=4)
    got = Engine(10, path).distances(np.concatenate([log_prob, log_prob]))
    assert (np.diag(got[:70, 70:]) == 0).all()


def test_tensor_tiles__take_the_longest_slab():
    log_prob = predictions(3, 2048, 3, sharpness=1)
    engine = Engine(3, "tensor", watched=False)
    assert agrees(engine.distances(log_prob), distances(log_prob))


@pytest.mark.parametrize("n_classes", CLASSES)
def test_prepare__writes_floored_roots_and_neutral_padding(n_classes):
    log_prob = np.concatenate(
        [predictions(30, 5, n_classes, sharpness=9), one_hot(3, 5, n_classes)]
    )
    slab = Engine(n_classes, "ffma").prepare(log_prob)
    root, _ = roots(log_prob)
    planes = slab.planes.transpose(2, 0, 1).astype(float)  # model, sample, class
    np.testing.assert_allclose(planes[:33, :5, :n_classes], root, rtol=5e-6)
    np.testing.assert_allclose((planes[:, :, :n_classes] ** 2).sum(-1), 1, rtol=1e-6)
    assert (planes[:, :, n_classes:] == 0).all()
    affinity = np.einsum("unc,vnc->uvn", planes, planes)
    assert (affinity[:, :, 5:] == 1).all()
    assert affinity[33:, :, :5].min() >= 0.99 * n_classes**-0.5


def test_prepare__counts_what_is_no_distribution():
    log_prob = predictions(40, 6, 10)
    log_prob[3, 2, 4] = np.nan
    log_prob[8, 5] = -np.inf
    engine = Engine(10, "ffma")
    engine.prepare(log_prob)
    assert engine.total.invalid == 2


def test_emulator__has_every_name_of_the_contract():
    text = (CUDA / "ptx.cuh").read_text().split("#else")[1].split("#endif")[0]
    names = set(re.findall(r"__forceinline__\s+\w+\s+(\w+)\(", text)) | {"DYNAMIC_SHARED"}
    emulated = (Path(__file__).parent / "emulator" / "emulate.cuh").read_text()
    assert len(names) > 8
    assert {name for name in names if f" {name}(" not in emulated} == set()
