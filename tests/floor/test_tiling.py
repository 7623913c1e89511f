"""The tile grid covers the upper triangle once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inpca import InputError
from inpca.tiling import TileGrid

grids = st.builds(TileGrid, st.integers(1, 120), st.integers(1, 50))


@given(grids)
def test_tile_grid__covers_the_upper_triangle_exactly_once(grid):
    seen = np.zeros((grid.n_models, grid.n_models), int)
    for tile in grid.tiles():
        rows, columns = grid.band(tile[0]), grid.band(tile[1])
        seen[rows, columns] += 1
        assert seen[rows, columns].shape == grid.shape(tile)
        if tile[0] != tile[1]:
            seen[columns, rows] += 1
    assert (seen == 1).all()


@given(grids)
def test_tile_grid__counts_its_tiles(grid):
    tiles = list(grid.tiles())
    assert len(tiles) == grid.n_tiles == len(set(tiles))
    assert tiles == sorted(tiles)


@given(grids)
def test_tile_grid__bands_are_consecutive(grid):
    bands = [grid.band(index) for index in range(grid.n_bands)]
    assert [band.start for band in bands[1:]] == [band.stop for band in bands[:-1]]
    assert (bands[0].start, bands[-1].stop) == (0, grid.n_models)


@pytest.mark.parametrize(
    ("n_models", "tile_size", "name"), [(0, 1, "n_models"), (5, 0, "tile_size")]
)
def test_tile_grid__refuses_empty_sizes(n_models, tile_size, name):
    with pytest.raises(InputError, match=f"`{name}` must be at least 1, not 0"):
        TileGrid(n_models, tile_size)


@pytest.mark.parametrize("index", [-1, 3])
def test_band__outside_the_grid_is_refused(index):
    with pytest.raises(InputError, match=r"`index` must be in 0 … 2"):
        TileGrid(5, 2).band(index)
