"""What callers pass as numbers, as float64."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from inpca.checks import Axes, plain_array
from inpca.errors import InputError


def real_numbers(values: ArrayLike, name: str, axes: Axes = ()) -> NDArray[np.float64]:
    """`values` as float64 of any shape.

    Raises
    ------
    InputError
        For text, dates, complex numbers, masked or missing ones, rows of different lengths, or
        anything else that is no number; see `inpca.checks.plain_array`, also for `axes`.
    """
    array = plain_array(values, name, axes)
    if array.dtype.kind not in "biuf":
        raise InputError(f"`{name}` must be real numbers, not {array.dtype}.")
    return array.astype(np.float64, copy=False)
