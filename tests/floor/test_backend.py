"""What this machine has, and the array namespace by name."""

import json
import os
import subprocess
import sys
from importlib import util
from types import SimpleNamespace

import numpy as np
import pytest

from inpca import InputError, ResourceError, backend
from inpca.backend import (
    available_memory,
    concatenate,
    free_disk,
    machine,
    namespace,
    total_memory,
)


def test_disk_block__is_that_of_the_nearest_folder_that_exists(tmp_path, monkeypatch):
    told = os.statvfs(tmp_path).f_frsize
    assert backend.disk_block(tmp_path / "no" / "folder") == min(told, 65536)
    for told, block in ((2**20, 65536), (0, 4096), (512, 512)):
        found = SimpleNamespace(f_frsize=told)
        monkeypatch.setattr(os, "statvfs", lambda path, found=found: found)
        assert backend.disk_block(tmp_path) == block


def test_namespace__of_numpy_is_numpy():
    assert namespace("numpy") is namespace(np.ones(2)) is namespace([1, 2]) is np


def test_namespace__refuses_other_names():
    with pytest.raises(InputError, match="'numpy' or 'cupy', not 'jax'"):
        namespace("jax")


@pytest.mark.skipif(util.find_spec("cupy") is not None, reason="cupy is installed")
def test_namespace__of_cupy_says_how_to_get_it():
    with pytest.raises(ResourceError, match="pip install"):
        namespace("cupy")


def test_machine__says_what_there_is_and_fits_into_json(tmp_path):
    found = json.loads(json.dumps(machine(tmp_path).to_dict()))
    assert found["cores"] >= 1
    assert 0 < found["memory_available"] <= found["memory_total"]
    assert found["disk_free"] > 0
    assert found["versions"]["numpy"] == np.__version__
    assert found["blas"]
    assert isinstance(found["gpus"], list)


@pytest.mark.parametrize(("limit", "used", "expected"), [("5000", "2000", 3000), ("90", "95", 0)])
def test_available_memory__keeps_to_the_limit_of_a_container(
    tmp_path, monkeypatch, limit, used, expected
):
    (tmp_path / "max").write_text(limit + "\n")
    (tmp_path / "current").write_text(used + "\n")
    files = ((str(tmp_path / "max"), str(tmp_path / "current")),)
    monkeypatch.setattr(backend, "_CGROUP_FILES", files)
    assert available_memory() == expected
    assert total_memory() == int(limit)


def test_available_memory__without_a_limit_is_the_machines(tmp_path, monkeypatch):
    (tmp_path / "max").write_text("max\n")
    (tmp_path / "current").write_text("2000\n")
    files = ((str(tmp_path / "max"), str(tmp_path / "current")),)
    monkeypatch.setattr(backend, "_CGROUP_FILES", files)
    assert available_memory() > 10_000_000


def test_available_memory__counts_no_copies_of_files(tmp_path, monkeypatch):
    (tmp_path / "max").write_text("5000")
    (tmp_path / "current").write_text("4500")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 3000\n")
    files = ((str(tmp_path / "max"), str(tmp_path / "current")),)
    monkeypatch.setattr(backend, "_CGROUP_FILES", files)
    assert available_memory() == 3500


def test_available_memory__keeps_to_the_least_limit_of_the_groups_above(tmp_path, monkeypatch):
    own = tmp_path / "slice" / "job"
    own.mkdir(parents=True)
    for folder, limit in ((tmp_path, "max"), (own.parent, "3000"), (own, "9000")):
        (folder / "max").write_text(limit)
        (folder / "current").write_text("1000")
    monkeypatch.setattr(backend, "_groups_below", lambda root: [own, own.parent, root])
    monkeypatch.setattr(
        backend, "_CGROUP_FILES", ((str(tmp_path / "max"), str(tmp_path / "current")),)
    )
    assert available_memory() == 2000
    assert total_memory() == 3000


LIMITED = """
import resource, sys
import numpy as np, psutil
import inpca
from inpca.backend import available_memory, total_memory

kind, room = getattr(resource, sys.argv[1]), 900_000_000
inpca.pairwise_distances(np.full((2, 1, 2), 0.5), executor="serial")  # everything is loaded
held = psutil.Process().memory_info()
used = held.vms if kind == resource.RLIMIT_AS else held.data
resource.setrlimit(kind, (used + room, used + room))
assert available_memory() <= room, available_memory()
assert total_memory() <= used + room
try:
    inpca.pairwise_distances(np.full((20_000, 1, 2), 0.5), executor="serial")
except inpca.ResourceError as error:
    print(error)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of Linux")
@pytest.mark.parametrize("kind", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_a_limit_of_the_process__is_refused_before_it_is_reached(kind):
    """3.2 GB of D where 0.9 GB may be taken: a named error, not one of NumPy or of the system."""
    command = [sys.executable, "-c", LIMITED, kind]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    assert "needs" in result.stdout


def test_free_disk__of_a_path_that_is_not_there_is_its_disks(tmp_path):
    assert free_disk(tmp_path / "a" / "b") > 0


def test_backend__imports_no_gpu_library_before_it_is_asked():
    code = "import sys, inpca.backend; sys.exit('cupy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_concatenate__takes_a_namespace_that_knows_it_by_its_old_name_alone():
    older = SimpleNamespace(concatenate=np.concatenate)

    class Foreign(np.ndarray):
        def __array_namespace__(self):
            return older

    Foreign.__module__ = "foreign"
    parts = [np.ones((2, n)).view(Foreign) for n in (1, 3)]
    assert concatenate(parts, axis=1).shape == (2, 4)


def test_machine__tells_of_a_cupy_that_cannot_be_imported(monkeypatch):
    def broken(name):
        raise ImportError("libcudart.so.13: cannot open shared object file")

    monkeypatch.setattr(backend.util, "find_spec", lambda name: True)
    monkeypatch.setattr(backend, "import_module", broken)
    assert backend._gpus() == [
        "none usable: cupy cannot be imported: libcudart.so.13: cannot open shared object file"
    ]
