"""Who computes: the CPU, a GPU, or the GPU where there is one that can."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from inpca.distance.gpu_device import check_compiler, check_linear_algebra, find_gpu
from inpca.distance.gpu_layout import Gpu
from inpca.errors import InputError, ResourceError

CPU, GPU, AUTO = "numba", "cupy", "auto"
NAMES = (CPU, GPU, AUTO)
_FLOAT32 = np.dtype(np.float32)

_log = logging.getLogger("inpca.distance")


@dataclass(frozen=True)
class Choice:
    """The backend that computes.

    Attributes
    ----------
    backend : ``"numba"`` or ``"cupy"``
    gpu : the device, of ``"cupy"``
    why : no GPU computes though ``"auto"`` would have taken one; else empty
    """

    backend: str
    gpu: Gpu | None = None
    why: str = ""


def choose_backend(
    backend: str,
    device: int | None,
    dtype: "np.dtype[Any]" = _FLOAT32,
    *,
    on_cluster: bool = False,
    linear_algebra: bool = False,
) -> Choice:
    """The backend that the arguments `backend` and `device` mean, looked at before any work.

    ``"auto"`` takes the GPU where there is one that can compute this, else the CPU, and logs which
    and why; where `device` names a GPU, it must be usable. `linear_algebra`: what is to be computed
    needs more of cupy than our own kernels do.

    Raises
    ------
    InputError
        If `backend` is not known, or cannot compute this.
    ResourceError
        If there is no GPU, or it cannot be used; the message tells the cure.
    """
    if backend not in NAMES:
        raise InputError(f"`backend` must be one of {', '.join(NAMES)}, not {backend!r}.")
    if backend == CPU:
        if device is not None:
            raise InputError(
                f"`device` is the number of a GPU, and backend='numba' uses none (now "
                f"device={device}); pass backend='cupy', or leave out `device`."
            )
        return Choice(CPU)
    required = backend == GPU or device is not None
    try:
        _refuse_what_no_gpu_computes(dtype, on_cluster)
        gpu = find_gpu(device)
        check_compiler(gpu)
        if linear_algebra:
            check_linear_algebra(gpu)
    except (InputError, ResourceError) as error:
        if required:
            raise
        _log.info("backend='auto' computes on the CPU: %s", error)
        return Choice(CPU, why=str(error))
    if backend == AUTO:
        _log.info("backend='auto' computes on %s", gpu)
    return Choice(GPU, gpu)


def _refuse_what_no_gpu_computes(dtype: "np.dtype[Any]", on_cluster: bool) -> None:
    if dtype != _FLOAT32:
        raise InputError(
            f"`X` must be float32 with backend='cupy', which computes in float32, not {dtype}; "
            "pass X.astype('float32'), or choose backend='numba'."
        )
    if on_cluster:
        raise InputError(
            "`executor` must not be a cluster with backend='cupy'; run one process for each GPU, "
            "each with its own `part` (part='1/4', device=0, …), into the same `out`."
        )
