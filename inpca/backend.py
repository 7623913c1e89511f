"""The array namespace by name or by array, and what this machine has. The only file that knows cupy
besides the GPU kernels; nothing heavy is imported before it is asked for."""

import os
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module, metadata, util
from pathlib import Path
from typing import Any

from inpca.errors import InputError, ResourceError
from inpca.executor import n_cores

_VERSIONS_OF = (
    "inpca",
    "numpy",
    "scipy",
    "numba",
    "llvmlite",
    "zarr",
    "pandas",
    "scikit-learn",
    "torch",
    "cupy-cuda12x",
    "cupy-cuda13x",
    "matplotlib",
    "plotly",
    "h5py",
    "xarray",
    "distributed",
)
_CGROUP_FILES = (  # version 2, version 1
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)


def namespace(of: Any) -> Any:
    """The module whose functions take `of`: an array, or ``"numpy"`` or ``"cupy"`` by name.

    An array of any other library that keeps to the array API standard says its own.

    Raises
    ------
    InputError
        For any other name.
    ResourceError
        If cupy is asked for and is not installed.
    """
    name = of if isinstance(of, str) else type(of).__module__.partition(".")[0]
    if name == "cupy":
        if util.find_spec("cupy") is None:
            raise ResourceError(
                "cupy is not installed; pip install 'inpca[gpu-cuda12]' or 'inpca[gpu-cuda13]'."
            )
        return import_module("cupy")
    if is_elsewhere(of):
        return of.__array_namespace__()
    if name == "numpy" or not isinstance(of, str):
        return import_module("numpy")
    raise InputError(f"`namespace` must be 'numpy' or 'cupy', not {name!r}.")


def is_elsewhere(values: Any) -> bool:
    """Whether `values` is an array of another library than NumPy, such as one on a GPU."""
    module = type(values).__module__.partition(".")[0]
    return module == "cupy" or (module != "numpy" and hasattr(values, "__array_namespace__"))


def to_host(values: Any) -> Any:
    """`values` as a NumPy array, copied from where it is; one of NumPy as it is."""
    if not is_elsewhere(values):
        return values
    if hasattr(values, "get"):
        return values.get()
    numpy = import_module("numpy")
    return numpy.array(numpy.from_dlpack(values))


def to_like(values: Any, like: Any) -> Any:
    """The NumPy array `values` copied to where `like` is; as it is where `like` is None or NumPy's.

    Raises
    ------
    MemoryError
        Of `like`'s library, if it does not fit there.
    """
    if not is_elsewhere(like):
        return values
    return namespace(like).asarray(values, **_place(like))


def zeros_at(like: Any, shape: tuple[int, ...]) -> Any:
    """Zeros of `shape`, float64, where `like` is; NumPy's where `like` is None."""
    if not is_elsewhere(like):
        return import_module("numpy").zeros(shape)
    xp = namespace(like)
    return xp.zeros(shape, dtype=xp.float64, **_place(like))


def as_float64(values: Any) -> Any:
    """A copy of the array `values` as float64, where it is."""
    if hasattr(values, "astype"):  # an array of the standard has none
        return values.astype("float64")
    xp = namespace(values)
    return xp.astype(values, xp.float64, copy=True)


def concatenate(parts: Sequence[Any], axis: int = 0) -> Any:
    """`parts` one behind the other, where they are."""
    xp = namespace(parts[0])
    # The standard's function; cupy has it from 14 on, NumPy from 2 on.
    return (xp.concat if hasattr(xp, "concat") else xp.concatenate)(parts, axis=axis)


def _place(like: Any) -> dict[str, Any]:
    """What the functions that make arrays need to make them where `like` is.

    cupy takes the current device, which is the caller's to choose.
    """
    return {} if namespace(like).__name__ == "cupy" else {"device": like.device}


@dataclass(frozen=True)
class Machine:
    """What this machine has.

    Attributes
    ----------
    platform : operating system, architecture and Python
    processor : its name
    cores : those this process may use
    memory_total, memory_available : bytes; within the limits of the process and its container
    disk_path, disk_free : a folder and the bytes free on its disk
    blas : one line per loaded BLAS or OpenMP library
    gpus : one line per GPU that cupy sees, or why it sees none
    versions : of Python packages; "" where one is not installed
    """

    platform: str
    processor: str
    cores: int
    memory_total: int
    memory_available: int
    disk_path: str
    disk_free: int
    blas: list[str]
    gpus: list[str]
    versions: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """As a dictionary that JSON can hold."""
        return asdict(self)


def machine(path: str | os.PathLike[str] = ".") -> Machine:
    """What this machine has; `path` is a folder on the disk that is asked about."""
    return Machine(
        platform=f"{platform.platform()}, Python {platform.python_version()}",
        processor=_processor(),
        cores=n_cores(),
        memory_total=total_memory(),
        memory_available=available_memory(),
        disk_path=str(Path(path).absolute()),
        disk_free=free_disk(path),
        blas=_blas(),
        gpus=_gpus(),
        versions={name: _version(name) for name in _VERSIONS_OF},
    )


def total_memory() -> int:
    """Bytes of memory, or the least limit of this process or its container if that is less."""
    import psutil

    return min([int(psutil.virtual_memory().total), *(limit for limit, _ in _memory_limits())])


def available_memory() -> int:
    """Bytes that can be taken without swapping, within the limits on this process.

    These are the limits of its container (cgroup) and every one above it, and its own
    (``ulimit -v``, ``ulimit -d``), each less what counts against it already.
    """
    import psutil

    left = (limit - used for limit, used in _memory_limits())
    return max(0, min([int(psutil.virtual_memory().available), *left]))


def free_disk(path: str | os.PathLike[str]) -> int:
    """Bytes free on the disk that holds `path`, which need not exist yet."""
    import psutil

    return int(psutil.disk_usage(str(_existing(path))).free)


def disk_block(path: str | os.PathLike[str]) -> int:
    """Bytes of which files on the disk that holds `path` take whole multiples, 4096 if unknown.

    No more than 64 KiB: network file systems tell the size of their transfers, up to 1 MiB.
    """
    told = os.statvfs(_existing(path)).f_frsize if hasattr(os, "statvfs") else 0
    return min(told or 4096, 65536)


def _existing(path: str | os.PathLike[str]) -> Path:
    """The nearest folder above `path` that exists, or `path` itself."""
    folder = Path(path).absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


def _memory_limits() -> list[tuple[int, int]]:
    """Each limit on the memory of this process, and what is used of it, in bytes."""
    return [*_container_limits(), *_process_limits()]


def _container_limits() -> Iterator[tuple[int, int]]:
    for limit_file, used_file in _CGROUP_FILES:
        root = Path(limit_file).parent
        for folder in _groups_below(root):
            limit, used = folder / Path(limit_file).name, folder / Path(used_file).name
            if limit.is_file() and used.is_file():
                text = limit.read_text().strip()
                if text.isdigit():
                    yield int(text), max(0, int(used.read_text()) - _reclaimable(folder))


def _groups_below(root: Path) -> list[Path]:
    """The control groups that this process is in, from its own up to `root`, as far as seen."""
    told = Path("/proc/self/cgroup")
    folders = [root]
    for line in told.read_text().splitlines() if told.is_file() else []:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        own = Path(path.lstrip("/"))
        folders += [root / one for one in (own, *own.parents)]
    return list(dict.fromkeys(folders))


def _reclaimable(folder: Path) -> int:
    """Bytes of a control group that are copies of files, which the system drops when it must."""
    told = folder / "memory.stat"
    for line in told.read_text().splitlines() if told.is_file() else []:
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file") and value.isdigit():
            return int(value)
    return 0


def _process_limits() -> list[tuple[int, int]]:
    """Of the address space and of the data of this process; only Linux holds a process to them."""
    if not sys.platform.startswith("linux"):
        return []
    import resource

    import psutil

    held = psutil.Process().memory_info()
    limits = ((resource.RLIMIT_AS, held.vms), (resource.RLIMIT_DATA, held.data))
    told = ((resource.getrlimit(kind)[0], int(used)) for kind, used in limits)
    return [(limit, used) for limit, used in told if limit != resource.RLIM_INFINITY]


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _blas() -> list[str]:
    import numpy.linalg  # noqa: F401  (loads the library that is asked about)
    from threadpoolctl import threadpool_info

    return [
        f"{info['internal_api']} {info['version'] or '(unknown version)'}, "
        f"{info['num_threads']} threads"
        for info in threadpool_info()
    ]


def _gpus() -> list[str]:
    if util.find_spec("cupy") is None:
        return []
    try:
        cupy = import_module("cupy")
    except ImportError as error:
        return [f"none usable: cupy cannot be imported: {error}"]
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return [f"none usable: {error}"]
    return [_describe_gpu(cupy, index) for index in range(count)]


def _describe_gpu(cupy: Any, index: int) -> str:
    properties = cupy.cuda.runtime.getDeviceProperties(index)
    capability = f"{properties['major']}.{properties['minor']}"
    gibibytes = properties["totalGlobalMem"] / 2**30
    return f"{properties['name'].decode()}, {gibibytes:.0f} GiB, compute capability {capability}"


def _version(name: str) -> str:
    if name == "inpca" and "inpca" in sys.modules:
        return str(sys.modules["inpca"].__version__)
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
