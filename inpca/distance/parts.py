"""Parts of one matrix for job arrays: independent processes, each with its own tiles."""

import re
from collections.abc import Sequence

from inpca.errors import InputError
from inpca.store.claim import WHOLE, Part
from inpca.tiling import Tile, TileGrid

PartArgument = str | Sequence[int] | None


def parse_part(part: PartArgument) -> Part:
    """(i, k) of ``"3/16"`` or ``(3, 16)``, counted from 1; None is the whole, (1, 1).

    Raises
    ------
    InputError
        If it is none of these, or i is not in 1 … k.
    """
    if part is None:
        return WHOLE
    if isinstance(part, str):
        match = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", part)
        numbers = [int(match[1]), int(match[2])] if match else []
    else:
        numbers = list(part)
    whole = all(isinstance(number, int) and not isinstance(number, bool) for number in numbers)
    if len(numbers) != 2 or not whole or not 1 <= numbers[0] <= numbers[1]:
        raise InputError(
            f"`part` must be i/k with 1 ≤ i ≤ k, such as 3/16 for the third of 16, not {part!r}."
        )
    return numbers[0], numbers[1]


def tiles_of_part(grid: TileGrid, part: Part) -> set[Tile]:
    """The tiles of part i of k: every tile is in one part, whatever computes it.

    Equal numbers of tiles, cut from a walk through the triangle along which neighbours share
    their models (Morton's order), so that a part reads few of them: about √(2/k) of all.
    """
    i, k = part
    walk = sorted(grid.tiles(), key=_morton)
    return set(walk[len(walk) * (i - 1) // k : len(walk) * i // k])


def describe_part(part: Part, computed: int, missing: int, n_tiles: int) -> str:
    """What a call for `part` has done, of a matrix of `n_tiles` tiles, and what is left to do."""
    left = f"{missing} of {n_tiles} of the matrix still to do" if missing else "the matrix is whole"
    what = "tile" if computed == 1 else "tiles"
    return f"part {part[0]} of {part[1]}: {computed} {what} computed; {left}"


def _morton(tile: Tile) -> int:
    """The bits of row and column in turn."""
    row, column = tile
    bits = max(row, column).bit_length()
    return sum(
        ((row >> bit & 1) << 2 * bit + 1) | ((column >> bit & 1) << 2 * bit) for bit in range(bits)
    )
