"""What callers pass as numbers, as float64: as `inpca.checks` has it."""

from inpca.checks import real_numbers

__all__ = ["real_numbers"]
