"""House rules that a tool can hold: who imports whom, which tool lives where, what is public."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import inpca

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "inpca"
# A room may import the rooms before it.
ROOMS = ["floor", "store", "distance", "embedding", "geometry", "plotting", "desk"]
# What stands on no floor and in no room: the desk at the door, after everything.
DESK = {"__main__", "cli", "export", "summary"}
# Public faces of a room, which stand beside the package's own.
FACES = {"inversion": "geometry", "trajectories": "geometry"}
ONE_PLACE = {
    "zarr": {"inpca/store"},
    "dask": {"inpca/executor.py"},
    "distributed": {"inpca/executor.py"},
    "cupy": {"inpca/backend.py", "inpca/distance/gpu_device.py"},
    "torch": {"collectors"},
    "yaml": {"collectors/zoo/yaml_file.py"},
    "lightning": {"collectors/lightning.py"},
    "pytorch_lightning": {"collectors/lightning.py"},
    "transformers": {"collectors/huggingface.py"},
    "h5py": {"inpca/export.py", "collectors"},
    "typer": {"inpca/cli", "collectors"},
    "matplotlib": {"inpca/plotting"},
    "plotly": {"inpca/plotting"},
}


def modules(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def room_of(parts: tuple[str, ...]) -> str:
    """The room of a module given as ("inpca", "store", "run")."""
    if len(parts) > 1 and parts[1] in ROOMS:
        return parts[1]
    if len(parts) > 1 and parts[1] in FACES:
        return FACES[parts[1]]
    return "desk" if len(parts) > 1 and parts[1] in DESK else "floor"


@pytest.mark.parametrize("path", modules("inpca"), ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms__are_imported_one_way(path: Path) -> None:
    own = ROOMS.index(room_of(path.relative_to(ROOT).with_suffix("").parts))
    if path == PACKAGE / "__init__.py":
        return
    for name in imported(path):
        parts = tuple(name.split("."))
        assert parts[0] != "collectors", f"{path} imports {name}"
        if parts[0] == "inpca" and len(parts) > 1:
            assert ROOMS.index(room_of(parts)) <= own, f"{path} imports {name}"


@pytest.mark.parametrize("tool", ONE_PLACE)
def test_each_tool__has_one_place(tool: str) -> None:
    users = {
        path.relative_to(ROOT).as_posix()
        for path in modules("inpca", "collectors")
        if any(name.split(".")[0] == tool for name in imported(path))
    }
    strangers = {user for user in users if not any(user.startswith(p) for p in ONE_PLACE[tool])}
    assert not strangers


def test_public_names__are_those_listed_and_all_exist() -> None:
    documented = {
        "DamagedStoreError", "Ensemble", "InPCA", "InpcaError", "InputError", "ResourceError",
        "TiledMatrix", "align", "average", "create_ensemble", "explained_by_samples",
        "explained_pairwise_distances", "four_point",
        "geodesic", "load_embedding", "sample_progress",
        "average_groups", "class_error", "compare_averages", "progress_table", "project_classes",
        "r_squared", "top_classes",
        "open_ensemble", "pairwise_distances", "inversion", "progress",
        "reindex", "trajectories", "trajectory_distances",
    }  # fmt: skip
    assert set(inpca.__all__) == documented | {"__version__"}
    assert all(getattr(inpca, name) is not None for name in inpca.__all__)


def test_import_inpca__loads_nothing_heavy_or_optional() -> None:
    code = "import inpca, sys; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(out.stdout.split())
    heavy = {"numpy", "pandas", "numba", "zarr", "scipy", "sklearn", "torch", "matplotlib"}
    assert not loaded & (heavy | {"plotly", "h5py", "cupy", "distributed", "xarray", "rich"})


def test_unknown_name__is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'embed_everything'"):
        inpca.embed_everything  # noqa: B018
