"""The fraction of stragglers in the limit of a large training set (Eq. 3)."""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import OptimizeWarning, curve_fit

from inpca.errors import InputError
from inpca.geometry.numbers import real_numbers

Floats = NDArray[np.float64]
_PARAMETERS = 3
# Exponents beyond these are a logarithm, or a step, that Eq. 3 was bent into.
_GAMMA = 1e-3, 20.0
# A smallest size that lacks less than this share of φ_∞ tells nothing about P₀ and γ.
_NOTHING_MISSING = 1e-6


@dataclass(frozen=True)
class FractionLimit:
    """The fit of φ(P) = φ_∞ [1 − (P/P₀)^−γ], with standard errors.

    Attributes
    ----------
    phi, phi_error : φ_∞, the fraction of stragglers in an infinite training set
    p0, p0_error : P₀, the size at which there are none
    gamma, gamma_error : γ, how fast the limit is reached
    covariance : of (φ_∞, ln P₀, γ), (3, 3)
    """

    phi: float
    phi_error: float
    p0: float
    p0_error: float
    gamma: float
    gamma_error: float
    covariance: Floats

    def at(self, sizes: ArrayLike) -> Floats:
        """φ(P) of the fit, of the shape of `sizes`."""
        size = real_numbers(sizes, "sizes")
        return np.asarray(_scaling(size, self.phi, np.log(self.p0), self.gamma))


def fraction_limit(
    sizes: ArrayLike, fractions: ArrayLike, errors: ArrayLike | None = None
) -> FractionLimit:
    """Extrapolate the fraction of stragglers to an infinite training set (Eq. 3).

    Parameters
    ----------
    sizes : training-set sizes P, (n,), at least three different ones
    fractions : φ at each, such as means over runs, (n,)
    errors : standard errors of `fractions`, (n,); without them they are taken as equal and their
        size from the scatter about the fit, which needs a fourth point

    Raises
    ------
    InputError
        For too few sizes, or fractions that the form does not fit: they must grow with the size
        and saturate, or there is nothing that determines P₀ and γ.

    Examples
    --------
    >>> sizes = np.array([500, 1000, 2000, 4000, 8000])
    >>> limit = fraction_limit(sizes, 0.11 * (1 - (sizes / 50) ** -0.8))
    >>> round(limit.phi, 4), round(limit.p0, 1), round(limit.gamma, 3)
    (0.11, 50.0, 0.8)
    """
    size, fraction, error = _check(sizes, fractions, errors)
    start = [1.1 * float(fraction.max()), np.log(size.min() / 5), 0.7]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", OptimizeWarning)
            best, covariance = curve_fit(
                _scaling,
                size,
                fraction,
                p0=start,
                sigma=error,
                absolute_sigma=error is not None,
                bounds=([0, -np.inf, _GAMMA[0]], [np.inf, np.log(size.min()), _GAMMA[1]]),
                x_scale=[start[0], 1.0, 1.0],
                ftol=1e-14,
                xtol=1e-14,
                gtol=1e-14,
                max_nfev=20_000,
            )
    except (OptimizeWarning, RuntimeError) as problem:
        raise _no_fit(fraction, str(problem)) from problem
    spread = np.sqrt(np.diag(covariance))
    missing = float(np.exp(-best[2] * (np.log(size.min()) - best[1])))
    if missing < _NOTHING_MISSING:
        raise _no_fit(fraction, "the smallest size is at the limit already")
    if not np.isfinite(spread).all() or not _GAMMA[0] * 1.01 < best[2] < _GAMMA[1] * 0.99:
        raise _no_fit(fraction, f"γ = {best[2]:.3g} is at the edge of what is sensible")
    p0 = float(np.exp(best[1]))
    return FractionLimit(
        phi=float(best[0]),
        phi_error=float(spread[0]),
        p0=p0,
        p0_error=float(p0 * spread[1]),
        gamma=float(best[2]),
        gamma_error=float(spread[2]),
        covariance=covariance,
    )


def _scaling(size: Floats, phi: float, log_p0: float, gamma: float) -> Floats:
    """Eq. 3; ln P₀ instead of P₀, which must not become negative on the way."""
    return np.asarray(phi * -np.expm1(-gamma * (np.log(size) - log_p0)))


def _no_fit(fraction: Floats, why: str) -> InputError:
    shown = ", ".join(f"{value:.3g}" for value in fraction)
    return InputError(
        f"`fractions` ({shown}) must grow with `sizes` and saturate as φ_∞ [1 − (P/P₀)^−γ] does; "
        f"the fit does not determine its parameters ({why}); add smaller and larger sizes, or "
        "average over more runs."
    )


def _check(
    sizes: ArrayLike, fractions: ArrayLike, errors: ArrayLike | None
) -> tuple[Floats, Floats, Floats | None]:
    size, fraction = real_numbers(sizes, "sizes"), real_numbers(fractions, "fractions")
    error = None if errors is None else real_numbers(errors, "errors")
    shapes = {values.shape for values in (size, fraction, error) if values is not None}
    if size.ndim != 1 or len(shapes) != 1:
        raise InputError(
            "`sizes`, `fractions` and `errors` must have one number per training-set size, not "
            f"shapes {', '.join(map(str, sorted(shapes)))}."
        )
    needed = _PARAMETERS + (error is None)
    if len(np.unique(size)) < needed:
        raise InputError(
            f"`sizes` must have at least {needed} different sizes "
            f"{'without' if error is None else 'with'} `errors` (three parameters are fitted), "
            f"not {len(np.unique(size))}."
        )
    if not (np.isfinite(size).all() and size.min() > 0):
        raise InputError("`sizes` must be positive numbers.")
    if not (np.isfinite(fraction).all() and fraction.min() >= 0 and fraction.max() <= 1):
        raise InputError("`fractions` must be fractions in [0, 1].")
    if not fraction.any():
        raise InputError("`fractions` must not all be zero: there are no stragglers.")
    if error is not None and not (np.isfinite(error).all() and error.min() > 0):
        raise InputError("`errors` must be positive numbers; leave them out if they are unknown.")
    return size, fraction, error
