"""Ensembles of strangers: whatever they hold, a named error, soon, and nothing outside touched."""

import copy as copies
import json
import os
import shutil

import numpy as np
import pytest

import inpca
from inpca.errors import DamagedStoreError, InpcaError, InputError
from inpca.store import documents as doc
from inpca.store.matrix import TiledMatrix


@pytest.fixture(scope="module")
def handed_over(tmp_path_factory):
    """An ensemble with a matrix and an embedding, as a stranger may hand it over."""
    rng = np.random.default_rng(0)
    ensemble = inpca.create_ensemble(
        tmp_path_factory.mktemp("handed-over") / "a.ensemble",
        sample_sets={"train": np.arange(30) % 4, "test": np.arange(7) % 4},
        n_classes=4,
    )
    for run, count in (("cnn", 4), ("mlp", 3)):
        p = {
            name: rng.dirichlet(np.ones(4), (count, n)) for name, n in (("train", 30), ("test", 7))
        }
        ensemble.add_run(run, p, config={"architecture": run})
    inpca.pairwise_distances(ensemble, out=ensemble.distances_path("train"), tile_size=4)
    inpca.InPCA(n_components=2).fit(ensemble).save(ensemble.embeddings_path("train"))
    return ensemble.path


@pytest.fixture
def foreign(handed_over, tmp_path):
    return shutil.copytree(handed_over, tmp_path / "a.ensemble")


def rewrite(file, edit, seal=True):
    """Change a document as a stranger would, who can seal it as well as we can."""
    document = json.loads(file.read_text())
    edit(document)
    document.get("attributes", document).pop(doc.SEAL, None)
    file.write_bytes(doc.sealed(document) if seal else json.dumps(document).encode())


def arrays(document):
    return document["consolidated_metadata"]["metadata"]


def a_huge(name):
    def edit(document):
        arrays(document)[name]["shape"][0] = 10**12
        arrays(document)[name]["chunk_grid"]["configuration"]["chunk_shape"][0] = 10**12

    return edit


def set_array(name, key, value):
    return lambda document: arrays(document)[name].__setitem__(key, value)


def every_length(value):
    def edit(document):
        for one in arrays(document).values():
            if one.get("shape") and one["dimension_names"][0] == "checkpoint":
                one["shape"][0] = value

    return edit


def rename(old, new):
    return lambda document: arrays(document).__setitem__(new, arrays(document).pop(old))


def set_header(key, value):
    return lambda document: document["attributes"]["inpca"].__setitem__(key, value)


def set_attribute(key, value):
    return lambda document: document["attributes"].__setitem__(key, value)


RUN, MATRIX, EMBEDDING = "runs/cnn.zarr", "distances/train.zarr", "embeddings/train.zarr"
HOSTILE = [
    (RUN, every_length(10**12)),
    (RUN, every_length(-1)),
    (RUN, every_length(0)),
    (RUN, every_length("4")),
    (RUN, every_length(True)),
    (RUN, set_array("step", "shape", [5])),
    (RUN, set_array("step", "data_type", "float64")),
    (RUN, set_array("step", "data_type", "object")),
    (RUN, set_array("step", "codecs", [{"name": "gzip"}])),
    (RUN, set_array("step", "dimension_names", [None])),
    (RUN, set_array("train/log_prob", "shape", [4, 10**12, 4])),
    (RUN, set_array("train/log_prob", "shape", [4, 30])),
    (RUN, set_array("train/log_prob", "codecs", [])),
    (RUN, set_array("train/log_prob", "chunk_grid", {})),
    (RUN, lambda document: arrays(document).pop("step")),
    (RUN, lambda document: arrays(document).pop("train/log_prob")),
    (RUN, lambda document: arrays(document).pop("train/digest")),
    (RUN, rename("epoch", "../../../epoch")),
    (RUN, rename("epoch", "/tmp/epoch")),
    (RUN, rename("epoch", "a/../../epoch")),
    (RUN, rename("epoch", "")),
    (RUN, rename("epoch", "\x1b[31mepoch")),
    (RUN, set_attribute("config", [])),
    (RUN, set_attribute("config", {"lr": {"nested": 1}})),
    (RUN, set_attribute("sample_sets", {"train": 3})),
    (RUN, set_attribute("sample_sets", {"../../train": "x"})),
    (RUN, set_attribute("sample_sets", None)),
    (RUN, set_attribute("inpca_chunks", {})),
    (RUN, set_attribute("inpca_chunks", [1])),
    (RUN, set_header("n_classes", 10**9)),
    (RUN, set_header("run", "mlp")),
    (MATRIX, set_array("distance", "shape", [10**9, 10**9])),
    (MATRIX, set_array("distance", "shape", [7])),
    (MATRIX, set_header("tile_size", 0)),
    (MATRIX, set_header("tile_size", -4)),
    (MATRIX, set_header("tile_size", 10**12)),
    (MATRIX, set_header("tile_size", "4")),
    (MATRIX, set_header("fingerprint", None)),
    (MATRIX, a_huge("model")),
    (MATRIX, a_huge("models/run")),
    (MATRIX, rename("model", "../model")),
    (EMBEDDING, a_huge("coordinates")),
    (EMBEDDING, a_huge("model")),
    (EMBEDDING, set_array("eigenvalues", "shape", [])),
    (EMBEDDING, set_array("eigenvalues", "shape", [3])),
    (EMBEDDING, lambda document: arrays(document).pop("eigenvalues")),
    (EMBEDDING, set_attribute("parameters", {"n_components": 2, "password": 1})),
    (EMBEDDING, set_attribute("parameters", [])),
    (EMBEDDING, set_attribute("converged", [True])),
    (EMBEDDING, set_attribute("clusters", [[0, 9]])),
    (EMBEDDING, set_attribute("clusters", 3)),
    (EMBEDDING, set_attribute("training", None)),
    (EMBEDDING, set_attribute("training", {"ensemble": None, "unheard_of": 1})),
    (EMBEDDING, set_attribute("grand_mean", "0")),
    (EMBEDDING, set_attribute("frobenius_norm", 10**400)),
    (EMBEDDING, set_attribute("names", "train")),
    (EMBEDDING, set_attribute("n_features_in", True)),
    (EMBEDDING, set_header("format_version", True)),
    (EMBEDDING, set_header("format_version", "1")),
]


def use(path):
    """What a user does with an ensemble that was handed over."""
    ensemble = inpca.open_ensemble(path)
    for action in (
        lambda: ensemble.models,
        lambda: ensemble.predictions("train").read(slice(None), slice(None)),
        lambda: TiledMatrix.open(ensemble.distances_path("train")).to_array(),
        lambda: TiledMatrix.open(ensemble.distances_path("train")).models,
        lambda: inpca.load_embedding(ensemble.embeddings_path("train")),
    ):
        try:
            action()
        except InpcaError as error:
            yield error


@pytest.mark.parametrize("seal", [True, False])
@pytest.mark.parametrize(("store", "edit"), HOSTILE)
def test_hostile_document__is_a_named_error(foreign, store, edit, seal):
    rewrite(foreign / store / "zarr.json", edit, seal)
    errors = [*use(foreign), *inpca.open_ensemble(foreign).check()]
    assert errors


@pytest.mark.parametrize(
    "edit",
    [
        lambda manifest: manifest.__setitem__("n_classes", 10**15),
        lambda manifest: manifest.__setitem__("n_classes", "4"),
        lambda manifest: manifest.__setitem__("dtype", "object"),
        lambda manifest: manifest.__setitem__("sample_sets", ["train"]),
        lambda manifest: manifest["sample_sets"].__setitem__("../../x", {}),
        lambda manifest: manifest["sample_sets"]["train"].__setitem__("n_samples", 10**12),
        lambda manifest: manifest["sample_sets"]["train"].pop("fingerprint"),
    ],
)
def test_hostile_manifest__is_a_named_error(foreign, edit):
    rewrite(foreign / "ensemble.json", edit)
    with pytest.raises(InpcaError):
        inpca.open_ensemble(foreign).predictions("train").read(slice(None), slice(None))


@pytest.mark.parametrize(
    "content", [b"[" * 200_000, b'{"a":' * 100_000, b"\xff\xfe", b'{"a": NaN}']
)
@pytest.mark.parametrize("file", ["ensemble.json", f"{RUN}/zarr.json", f"{MATRIX}/zarr.json"])
def test_document_that_is_no_json__is_a_named_error(foreign, file, content):
    (foreign / file).write_bytes(content)
    try:
        errors = [*use(foreign)]
    except DamagedStoreError as error:
        errors = [error]
    assert errors


@pytest.mark.parametrize("name", ["zarr.json", "step/c.0", "train/log_prob/c.1.0.0"])
@pytest.mark.parametrize("kind", ["fifo", "link", "device", "folder"])
def test_chunk_that_is_no_regular_file__is_named_at_once(foreign, tmp_path, name, kind):
    file = foreign / RUN / name
    (tmp_path / "elsewhere").write_bytes(file.read_bytes())
    file.unlink()
    if kind == "fifo":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    else:
        file.symlink_to("/dev/zero" if kind == "device" else tmp_path / "elsewhere")
    assert any("regular file" in str(e) or "symbolic link" in str(e) for e in use(foreign))
    assert [damage.key for damage in inpca.open_ensemble(foreign).check()] == [f"{RUN}/{name}"]


@pytest.mark.parametrize(
    "folder",
    ["runs", "samples", "runs/cnn.zarr", "runs/cnn.zarr/train", "distances/train.zarr/distance"],
)
def test_folder_that_is_a_link__is_not_followed(foreign, tmp_path, folder):
    shutil.move(foreign / folder, tmp_path / "elsewhere")
    (foreign / folder).symlink_to(tmp_path / "elsewhere")
    try:
        errors = [*use(foreign)]
    except DamagedStoreError as error:
        errors = [error]
    assert any("symbolic link" in str(error) for error in errors)


def test_lock_that_is_a_link__does_not_empty_what_it_points_to(foreign, tmp_path):
    victim = tmp_path / "profile"
    victim.write_text("precious")
    lock = foreign / ".locks" / "new.lock"
    lock.symlink_to(victim)
    with pytest.raises(DamagedStoreError, match="symbolic link"):
        inpca.open_ensemble(foreign).start_run("new")
    assert victim.read_text() == "precious"


def test_planted_links__lead_no_write_anywhere(foreign, tmp_path):
    """Names of files that are written next, as far as they can be foreseen."""
    victim = tmp_path / "profile"
    victim.write_text("precious")
    (foreign / "catalogue").unlink(missing_ok=True)
    for name in ("catalogue", f"catalogue.{os.getpid()}.partial", "runs/cnn.zarr/step/c.1"):
        (foreign / name).symlink_to(victim)
    (foreign / "runs/cnn.zarr/train/log_prob/c.4.0.0").symlink_to(victim)
    ensemble = inpca.open_ensemble(foreign)
    _ = ensemble.models
    assert ensemble.check() == []
    p = {"train": np.full((30, 4), 0.25), "test": np.full((7, 4), 0.25)}
    with ensemble.start_run("cnn", resume=True) as run, pytest.raises(OSError, match=r"c\.4\.0"):
        run.append(p, "probs", step=99, epoch=9)
    assert victim.read_text() == "precious"


def test_check_and_info__write_nothing_in_the_ensemble_of_somebody_else(foreign, monkeypatch):
    from inpca.summary import describe_ensemble

    monkeypatch.setattr("inpca.store.catalogue._SETTLED_NS", -(10**12))
    (foreign / "catalogue").unlink(missing_ok=True)
    monkeypatch.setattr(os, "geteuid", lambda: foreign.stat().st_uid + 1)
    before = sorted(foreign.rglob("*"))
    ensemble = inpca.open_ensemble(foreign)
    assert ensemble.check() == []
    assert describe_ensemble(ensemble)["models"] == 7
    assert sorted(foreign.rglob("*")) == before


def test_catalogue_of_a_stranger__is_not_believed(foreign):
    from inpca.store import catalogue, layout

    expected = inpca.open_ensemble(foreign).models
    for entries in (b"[]", b'{"cnn": 3}', b'{"cnn": {"stamp": 1}}', b"[" * 100_000, b"\xff"):
        body = catalogue._VERSION + layout.checksum(entries) + entries
        (foreign / "catalogue").write_bytes(body)
        assert inpca.open_ensemble(foreign).models.equals(expected)


def test_run_in_another_folder__is_named(foreign):
    shutil.copytree(foreign / "runs/cnn.zarr", foreign / "runs/copy.zarr")
    with pytest.raises(DamagedStoreError, match="'cnn', in the folder of 'copy'"):
        inpca.open_ensemble(foreign).run("copy")


def test_seal__is_of_the_canonical_form():
    document = {"attributes": {"b": 1, "a": [1, 2.5, "ä"]}, "node_type": "group"}
    other = copies.deepcopy(document)
    other["attributes"] = dict(sorted(other["attributes"].items()))
    seals = [json.loads(doc.sealed(one))["attributes"][doc.SEAL] for one in (document, other)]
    assert seals[0] == seals[1]
    assert doc.parse(json.dumps(json.loads(doc.sealed(document)), indent=4).encode()) == document


def test_open__of_a_link_to_an_ensemble__is_the_users_own_affair(foreign, tmp_path):
    (tmp_path / "link.ensemble").symlink_to(foreign)
    assert len(inpca.open_ensemble(tmp_path / "link.ensemble")) == 7
    with pytest.raises(InputError):
        inpca.open_ensemble(tmp_path / "nowhere")
