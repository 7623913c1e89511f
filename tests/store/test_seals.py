"""No bit of an ensemble changes, and no file takes another's place, without being named."""

import itertools
import shutil

import numpy as np
import pytest

import inpca
from inpca.errors import DamagedStoreError, InpcaError
from inpca.trajectories import load_trajectory_distances


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """An ensemble with runs, hidden layers, distances, an embedding and trajectories."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("pristine") / "a.ensemble"
    labels = {"train": np.arange(24) % 2, "test": np.arange(6) % 2}
    ensemble = inpca.create_ensemble(
        path, sample_sets=labels, n_classes=2, ids={"test": list("abcdef")}
    )
    for seed, run in enumerate(("a-0", "a-1", "b-0")):
        sharp = np.linspace(0, 2 + seed, 6)[:, None, None]
        predictions = {
            name: rng.normal(size=(6, len(one), 2)) + sharp * np.eye(2)[one]
            for name, one in labels.items()
        }
        hidden = {f"train/{name}": rng.random(6) for name in ("radius_plus", "radius_minus")}
        ensemble.add_run(
            run,
            predictions,
            "logits",
            config={"seed": seed, "lr": 0.1},
            observables=hidden | {"train/activations": rng.random((6, 24, 3))},
        )
    inpca.pairwise_distances(ensemble, out=ensemble.distances_path("train"), tile_size=5)
    embedding = inpca.InPCA(n_components=2).fit(ensemble)
    embedding.save(ensemble.embeddings_path("train"))
    inpca.trajectory_distances(
        ensemble, s=[0.2, 0.4], out=ensemble.path / "trajectories" / "train.zarr"
    )
    _ = ensemble.models
    assert ensemble.check() == []
    return path


@pytest.fixture
def copy(pristine, tmp_path):
    return shutil.copytree(pristine, tmp_path / "copy.ensemble")


def files(path):
    return sorted(file for file in path.rglob("*") if file.is_file() and file.stat().st_size)


def damages(path):
    """Keys that a check names; the error, if the ensemble cannot even be opened."""
    try:
        return [damage.key for damage in inpca.open_ensemble(path).check()]
    except InpcaError as error:
        return [str(error)]


def flip_and_check(copy, number, seed):
    rng = np.random.default_rng(seed)
    silent = []
    sizes = np.array([file.stat().st_size for file in files(copy)])
    for _ in range(number):
        # Small files count as much as large ones: half by file, half by byte.
        weights = sizes / sizes.sum() if rng.random() < 0.5 else None
        file = files(copy)[rng.choice(len(sizes), p=weights)]
        content = file.read_bytes()
        position, bit = rng.integers(len(content)), rng.integers(8)
        changed = bytearray(content)
        changed[position] ^= 1 << bit
        file.write_bytes(changed)
        if not damages(copy):
            silent.append((str(file.relative_to(copy)), int(position), int(bit)))
        file.write_bytes(content)
    assert silent == []
    assert damages(copy) == []


def test_flipped_bits__are_all_named(copy):
    flip_and_check(copy, 60, seed=0)


@pytest.mark.slow
def test_a_thousand_flipped_bits__are_all_named(copy):
    flip_and_check(copy, 1000, seed=1)


def swap_and_check(copy, number, seed):
    """Exchange files of one size, and of other contents, which may lie in any store."""
    by_size = {}
    for file in files(copy):
        by_size.setdefault(file.stat().st_size, []).append(file)
    pairs = [
        pair
        for alike in by_size.values()
        for pair in itertools.combinations(alike, 2)
        if pair[0].read_bytes() != pair[1].read_bytes()
    ]
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(pairs), size=min(number, len(pairs)), replace=False)
    silent = []
    for first, second in (pairs[index] for index in chosen):
        contents = first.read_bytes(), second.read_bytes()
        first.write_bytes(contents[1]), second.write_bytes(contents[0])
        if not damages(copy):
            silent.append((str(first.relative_to(copy)), str(second.relative_to(copy))))
        first.write_bytes(contents[0]), second.write_bytes(contents[1])
    assert silent == []
    assert damages(copy) == []


def test_swapped_files__are_all_named(copy):
    swap_and_check(copy, 40, seed=0)


@pytest.mark.slow
def test_five_hundred_swapped_files__are_all_named(copy):
    swap_and_check(copy, 500, seed=1)


def test_deleted_files__are_all_named(copy):
    for file in files(copy):
        # A kill may leave out what only repeats a run's root; the catalogue is made again.
        of_a_run = "runs" in file.parts and file.parent.suffix != ".zarr"
        if (file.name == "zarr.json" and of_a_run) or file.name in ("catalogue", "ensemble.json"):
            continue
        content = file.read_bytes()
        file.unlink()
        assert damages(copy), file
        file.write_bytes(content)


def test_deleted_matrix_of_finished_trajectories__is_named(copy):
    shutil.rmtree(copy / "trajectories" / "train.zarr" / "0001.zarr")
    assert damages(copy) == ["trajectories/train.zarr/0001.zarr"]
    with pytest.raises(DamagedStoreError, match="though it was finished"):
        load_trajectory_distances(copy / "trajectories" / "train.zarr")
