"""Each divergence as one declaration, in the array namespace it is given.

The engine needs of a divergence only how log-probabilities become *features* whose inner product
over classes is the affinity of two models in one sample:

    a_uv[n] = Σ_c f(p_u)[n, c] f(p_v)[n, c],        D_uv = −(1/N) Σ_n ln a_uv[n].
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from inpca.errors import InputError

# √p is floored here. An affinity is then at least 2⁻⁶² (some model has Σ_c √p ≥ 1), so that one
# sample contributes at most 62 ln 2 = 43 nats, and two affinities multiply in float32 without
# underflow (2⁻¹²⁴ > 2⁻¹²⁶).
FLOOR = 2.0**-62


@dataclass(frozen=True)
class Divergence:
    """One divergence between models.

    Attributes
    ----------
    name : what a caller passes as `metric`
    unit : of a distance
    features : ``features(log_p, xp)`` in array namespace `xp`, (…, n_classes) → the same shape
    equation : the definition, for people
    """

    name: str
    unit: str
    features: Callable[[Any, Any], Any]
    equation: str


def _sqrt_probabilities(log_p: Any, xp: Any) -> Any:
    """√p = exp(½ ln p), floored at `FLOOR`."""
    return xp.maximum(xp.exp(log_p * log_p.dtype.type(0.5)), log_p.dtype.type(FLOOR))


BHATTACHARYYA = Divergence(
    name="bhattacharyya",
    unit="nats per sample",
    features=_sqrt_probabilities,
    equation="D_uv = −(1/N) Σ_n ln Σ_c √p_u[n,c] √p_v[n,c]",
)

_DIVERGENCES = {BHATTACHARYYA.name: BHATTACHARYYA}


def get_divergence(name: str) -> Divergence:
    """The divergence called `name`.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    if name not in _DIVERGENCES:
        raise InputError(f"`metric` must be one of {', '.join(_DIVERGENCES)}, not {name!r}.")
    return _DIVERGENCES[name]
