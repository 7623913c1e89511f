"""What callers pass as numbers, as float64."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from inpca.errors import InputError


def real_numbers(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """`values` as float64 of any shape.

    Raises
    ------
    InputError
        For text, complex numbers, rows of different lengths, or anything else that is no number.
    """
    try:
        array = np.asarray(values)
    except ValueError as error:  # rows of different lengths
        raise InputError(f"`{name}` must be an array of numbers ({error}).") from error
    if array.dtype.kind not in "biuf":
        raise InputError(f"`{name}` must be real numbers, not {array.dtype}.")
    return array.astype(np.float64, copy=False)
