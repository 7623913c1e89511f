"""The tile grid of a symmetric matrix: pure arithmetic on indices, no data."""

from collections.abc import Iterator
from dataclasses import dataclass

from inpca.errors import InputError

Tile = tuple[int, int]


@dataclass(frozen=True)
class TileGrid:
    """The tiles (i, j), i ≤ j, of a symmetric (n_models, n_models) matrix.

    Attributes
    ----------
    n_models : rows and columns of the matrix
    tile_size : rows and columns of a tile; the last tile of a row or column may be smaller
    """

    n_models: int
    tile_size: int

    def __post_init__(self) -> None:
        for name in ("n_models", "tile_size"):
            if getattr(self, name) < 1:
                raise InputError(f"`{name}` must be at least 1, not {getattr(self, name)}.")

    @property
    def n_bands(self) -> int:
        """Number of tiles along one side: ⌈n_models / tile_size⌉."""
        return -(-self.n_models // self.tile_size)

    @property
    def n_tiles(self) -> int:
        """Number of tiles in the upper triangle, the diagonal included."""
        return self.n_bands * (self.n_bands + 1) // 2

    def band(self, index: int) -> slice:
        """The models of band `index`."""
        if not 0 <= index < self.n_bands:
            raise InputError(f"`index` must be in 0 … {self.n_bands - 1}, not {index}.")
        start = index * self.tile_size
        return slice(start, min(start + self.tile_size, self.n_models))

    def tiles(self) -> Iterator[Tile]:
        """All tiles of the upper triangle, row by row."""
        for i in range(self.n_bands):
            for j in range(i, self.n_bands):
                yield i, j

    def shape(self, tile: Tile) -> tuple[int, int]:
        """Rows and columns of `tile` that lie inside the matrix."""
        rows, columns = self.band(tile[0]), self.band(tile[1])
        return rows.stop - rows.start, columns.stop - columns.start
