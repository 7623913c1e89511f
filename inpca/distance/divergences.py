"""Each divergence as one declaration, in the array namespace it is given.

Every divergence here is a *similarity* S that the engine sums over samples and normalises,

    D_uv = (½ (S_uu + S_vv) − S_uv) / N,        S_uv = weight · Σ_n s_uv[n],

so that identical models are at distance exactly 0. A declaration says how log-probabilities become
*features* f, and for some a second kind g, and which `Reduction` makes s_uv[n] of them; each
backend has one kernel for each reduction, none for a divergence. All of them are of squared type,
‖X_u − X_v‖² = D_uv, and are means over the samples.
"""

import difflib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

from inpca.errors import InputError

# √p is floored here. An affinity is then at least 2⁻⁶² (some model has Σ_c √p ≥ 1), so that one
# sample contributes at most 62 ln 2 = 43 nats, and two affinities multiply in float32 without
# underflow (2⁻¹²⁴ > 2⁻¹²⁶).
FLOOR = 2.0**-62
# The same floor for p itself, and for ln p: −124 ln 2 = −86 nats.
PROBABILITY_FLOOR = FLOOR**2
LOG_FLOOR = 2.0 * math.log(FLOOR)

NATS = "nats per sample"


class Reduction(Enum):
    """How s_uv[n] comes from the features of two models in one sample.

    The value is the definition. Differences are taken before they are multiplied, so that nothing
    cancels where two models are nearly the same.
    """

    LOG_AFFINITY = "½ [ln Σ_c f_u g_v + ln Σ_c g_u f_v]"
    DIFFERENCE = "−Σ_c (f_u − f_v)(g_u − g_v)"
    ANGLE = "−arccos(1 − ½ Σ_c (f_u − f_v)²)"
    SQUARED_ANGLE = "−arccos²(1 − ½ Σ_c (f_u − f_v)²)"
    ENTROPY = "Σ_c m ln m, m = ½ (f_u + f_v)"


@dataclass(frozen=True)
class Feature:
    """One number for every probability.

    Attributes
    ----------
    of : ``of(log_p, xp)`` in array namespace `xp`, (…, n_classes) → the same shape and dtype
    floor : the least value, where the true one may be less and a contribution can be capped by
        it; None: nothing is capped
    """

    of: Callable[[Any, Any], Any]
    floor: float | None = None

    def __call__(self, log_p: Any, xp: Any) -> Any:
        """The feature of log-probabilities."""
        return self.of(log_p, xp)


@dataclass(frozen=True)
class Divergence:
    """One divergence between models.

    Attributes
    ----------
    name : what a caller passes as `metric`, and what a stored matrix records
    unit : of a distance
    features : f
    reduction : that makes the similarity of f and g
    equation : the definition, for people
    partner : g; None: it is f
    weight : that multiplies the reduction
    capped : what the floor of a feature does to a contribution, for the warning that counts them
    """

    name: str
    unit: str
    features: Feature
    reduction: Reduction
    equation: str
    partner: Feature | None = None
    weight: float = 1.0
    capped: str = ""

    @property
    def all_features(self) -> tuple[Feature, ...]:
        """(f,) or (f, g): what a kernel keeps of a prediction."""
        return (self.features,) if self.partner is None else (self.features, self.partner)


# -- features -------------------------------------------------------------------------------------


def _power(log_p: Any, xp: Any, *, exponent: float) -> Any:
    """pᵃ = exp(a ln p), floored at `FLOOR`."""
    return xp.maximum(xp.exp(log_p * exponent), FLOOR)


def _probabilities(log_p: Any, xp: Any) -> Any:
    """p, floored at `PROBABILITY_FLOOR`: it would be slow to compute with what is denormal."""
    return xp.exp(_log_probabilities(log_p, xp))


def _log_probabilities(log_p: Any, xp: Any) -> Any:
    """ln p, floored at `LOG_FLOOR`."""
    return xp.maximum(log_p, LOG_FLOOR)


_sqrt_probabilities = partial(_power, exponent=0.5)
_LIKELY = (
    "exceeded 43 nats and were capped there: models that give each other's likely classes a "
    "probability below 5e-38"
)

# -- divergences ----------------------------------------------------------------------------------

BHATTACHARYYA = Divergence(
    name="bhattacharyya",
    unit=NATS,
    features=Feature(_sqrt_probabilities, FLOOR),
    reduction=Reduction.LOG_AFFINITY,
    equation="D_uv = −(1/N) Σ_n ln Σ_c √p_u[n,c] √p_v[n,c]",
    capped=_LIKELY,
)

JEFFREYS = Divergence(
    name="jeffreys",
    unit=NATS,
    features=Feature(_probabilities),
    partner=Feature(_log_probabilities, LOG_FLOOR),
    reduction=Reduction.DIFFERENCE,
    equation="D_uv = (1/N) Σ_n Σ_c (p_u − p_v)(ln p_u − ln p_v)",
    capped="have a class to which one model alone gives a probability below 5e-38, which counts "
    "as 5e-38",
)

HELLINGER2 = Divergence(
    name="hellinger2",
    unit="1",
    features=Feature(_sqrt_probabilities),
    reduction=Reduction.DIFFERENCE,
    weight=0.5,
    equation="D_uv = (1/N) Σ_n (1 − Σ_c √p_u √p_v) = (1/2N) Σ_n Σ_c (√p_u − √p_v)²",
)

GEODESIC = Divergence(
    name="geodesic",
    unit="radians",
    features=Feature(_sqrt_probabilities),
    reduction=Reduction.ANGLE,
    equation="D_uv = (1/N) Σ_n arccos Σ_c √p_u √p_v",
)

GEODESIC2 = Divergence(
    name="geodesic2",
    unit="radians²",
    features=Feature(_sqrt_probabilities),
    reduction=Reduction.SQUARED_ANGLE,
    equation="D_uv = (1/N) Σ_n arccos² Σ_c √p_u √p_v",
)

JENSEN_SHANNON = Divergence(
    name="jensen-shannon",
    unit=NATS,
    features=Feature(_probabilities),
    reduction=Reduction.ENTROPY,
    equation="D_uv = (1/N) Σ_n [H(½ (p_u + p_v)) − ½ H(p_u) − ½ H(p_v)], H(p) = −Σ_c p ln p",
)

EUCLIDEAN = Divergence(
    name="euclidean",
    unit="1",
    features=Feature(_probabilities),
    reduction=Reduction.DIFFERENCE,
    equation="D_uv = (1/N) Σ_n Σ_c (p_u − p_v)²",
)


def chernoff(alpha: float) -> Divergence:
    """The Chernoff divergence of order `alpha`, 0 < α < 1, symmetrised.

    D_uv = −(1/2N) Σ_n [ln Σ_c p_uᵃ p_v¹⁻ᵃ + ln Σ_c p_u¹⁻ᵃ p_vᵃ]; at α = ½ it is the
    Bhattacharyya distance. Its name is ``"chernoff:α"``.
    """
    return _of_order("chernoff", alpha, 1.0, "−(1/2N)")


def renyi(alpha: float) -> Divergence:
    """The Rényi divergence of order `alpha`, 0 < α < 1, symmetrised: Chernoff's over 1 − α.

    D_uv = ½ [R(p_u‖p_v) + R(p_v‖p_u)] with R(p‖q) = −1/(1 − α) (1/N) Σ_n ln Σ_c pᵃ q¹⁻ᵃ, which
    becomes half of Jeffreys' divergence for α → 1. Its name is ``"renyi:α"``.
    """
    return _of_order("renyi", alpha, 1.0 / (1.0 - alpha) if alpha != 1 else 1.0, "−1/(2N (1 − α))")


def _of_order(family: str, alpha: float, weight: float, factor: str) -> Divergence:
    # Nearer to 0 or 1 the product trick would lose the affinity's first digits in ln 1.
    if not 0.01 <= alpha <= 0.99:
        raise InputError(
            f"`metric` {family}:α must have an order α in 0.01 … 0.99, not {alpha!r}; the limits 0 "
            "and 1 lead to 'jeffreys'."
        )
    alpha = float(alpha)
    return Divergence(
        name=f"{family}:{alpha!r}",
        unit=NATS,
        features=Feature(partial(_power, exponent=alpha), FLOOR),
        partner=Feature(partial(_power, exponent=1.0 - alpha), FLOOR),
        reduction=Reduction.LOG_AFFINITY,
        weight=weight,
        equation=f"D_uv = {factor} Σ_n [ln Σ_c p_uᵃ p_v¹⁻ᵃ + ln Σ_c p_u¹⁻ᵃ p_vᵃ], α = {alpha!r}",
        capped="have an affinity, each of the two directions counted, that was raised to e⁻⁴³: "
        "models that give each other's likely classes hardly any probability",
    )


DIVERGENCES = {
    divergence.name: divergence
    for divergence in (
        BHATTACHARYYA,
        JEFFREYS,
        HELLINGER2,
        GEODESIC,
        GEODESIC2,
        JENSEN_SHANNON,
        EUCLIDEAN,
    )
}
FAMILIES: dict[str, Callable[[float], Divergence]] = {"chernoff": chernoff, "renyi": renyi}


def get_divergence(name: str, *, others: Sequence[str] = ()) -> Divergence:
    """The divergence called `name`; that of a family with its parameter, ``"chernoff:0.3"``.

    Parameters
    ----------
    name : as recorded in `Divergence.name`, or another spelling of its number
    others : what the caller allows beside divergences, for the message

    Raises
    ------
    InputError
        If there is none of that name; tells those that there are, and the nearest.
    """
    if isinstance(name, str):
        if name in DIVERGENCES:
            return DIVERGENCES[name]
        family, _, parameter = name.partition(":")
        if family in FAMILIES:
            return FAMILIES[family](_number(name, parameter))
    known = [*DIVERGENCES, *(f"{family}:α" for family in FAMILIES), *others]
    near = difflib.get_close_matches(str(name).lower(), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    raise InputError(f"`metric` must be one of {', '.join(known)}, not {name!r}{hint}")


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InputError(
            f"`metric` {name!r} lacks the order: write it as a number, such as "
            f"'{name.partition(':')[0]}:0.3'."
        ) from error
