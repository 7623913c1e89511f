"""Numbers of any size: powers of two that keep squares within the range of float64.

Multiplying by a power of two changes no digit, so that D in other units, however small or large,
gives the very same vectors, and eigenvalues in these units.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inpca.errors import InputError

Float64 = NDArray[np.float64]

# Between these, sums of squares neither overflow nor lose anything; beyond, numbers are scaled.
_SMALL, _LARGE = 2.0**-300, 2.0**300


def exponent_of(largest: float, *, even: bool = False) -> int:
    """e for which numbers of up to `largest`, times 2^−e, are safe to square; 0: as they are.

    Parameters
    ----------
    largest : magnitude
    even : an even e, so that a square root can be taken of 2^e
    """
    if largest == 0 or not math.isfinite(largest) or _SMALL <= largest <= _LARGE:
        return 0
    exponent = math.frexp(largest)[1]
    return exponent + exponent % 2 if even else exponent


def scaled(values: Any, exponent: int) -> Any:
    """`values` times 2^exponent, a number or an array that lies anywhere."""
    # In two steps: 2^1070 is no float64, and 2^−1070 no exact one.
    if exponent == 0:
        return values
    half = exponent // 2
    with np.errstate(over="ignore"):  # what float64 cannot hold is refused by `check_range`
        return values * 2.0**half * 2.0 ** (exponent - half)


def column_norms(values: Float64) -> Float64:
    """‖·‖ of each column, of whatever size."""
    exponent = exponent_of(float(np.abs(values).max(initial=0.0)))
    norms = np.linalg.norm(scaled(values, -exponent), axis=0)
    return np.asarray(scaled(norms, exponent))


def check_range(values: Float64 | float, what: str) -> None:
    """Refuse results that float64 cannot hold."""
    if not np.isfinite(values).all():
        raise InputError(
            f"{what} exceed the range of float64 (1.8e308); give distances, or weights, in a "
            "larger unit."
        )


def check_digits(values: Float64 | float, what: str, exponent: int = 0) -> None:
    """Refuse results, times 2^exponent, so small that float64 has fewer digits for them."""
    found = np.abs(np.asarray(scaled(values, exponent)))
    if (found[np.asarray(values) != 0] < np.finfo(float).tiny).any():
        raise InputError(
            f"{what} fall below 2.2e-308, where float64 loses digits; give distances, or weights, "
            "in a smaller unit."
        )
