"""What a picture can be told beside its colour."""

import math
from dataclasses import dataclass

from inpca.errors import InputError


@dataclass(frozen=True)
class Settings:
    """Numbers that steer pictures; each picture says which of them it heeds.

    Attributes
    ----------
    select : only the models for which this query holds are drawn, in pandas' words; all if empty
    away : distance from truth, nats per sample, beyond which a model is away; the paper's 2
    within : distance below which a model is near a point of the geodesic; the paper's 0.15 is of
        Bhattacharyya distances
    at, sigma : of `inpca.four_point`
    points : values of s at which trainings are compared; None: those that are stored, or 25

    Raises
    ------
    InputError
        For numbers out of range.
    """

    select: str = ""
    away: float = 2.0
    within: float = 0.15
    at: tuple[float, float] = (0.3, 0.7)
    sigma: float = 0.05
    points: int | None = None

    def __post_init__(self) -> None:
        for name in ("away", "within", "sigma"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise InputError(f"`{name}` must be a positive number, not {value!r}.")
        if len(self.at) != 2 or not all(0 <= s <= 1 for s in self.at) or len(set(self.at)) == 1:
            raise InputError(f"`at` must be two different values in [0, 1], not {self.at!r}.")
        if self.points is not None and self.points < 2:
            raise InputError(f"`points` must be at least 2 values of s, not {self.points}.")
