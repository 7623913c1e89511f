"""What a matrix takes on disk, where files lie in whole blocks: arithmetic, no data."""

DISK_BLOCK = 4096  # bytes, of most file systems
# Beside the distances of a tile: its name in the folder, with its partial one, and those of its
# seal and its count of capped contributions.
_NAMES = 384
# zarr.json of every array and group, and the folders; and what the table of models, the identities
# and the coordinates take of one model. Measured: 225 to 250 bytes with 14 to 17 columns.
_METADATA_FILES, _MODEL_BYTES = 64, 256


def tiles_on_disk(n_tiles: int, tile_size: int, block: int = DISK_BLOCK) -> int:
    """Bytes that `n_tiles` tiles occupy in files of whole blocks, at most.

    Each has its file, T²·4 + 4 bytes, a seal of one block, and another of one block where
    contributions were capped.
    """
    return n_tiles * (_in_blocks(tile_size**2 * 4 + 4, block) + 2 * block + _NAMES)


def metadata_on_disk(n_models: int, block: int = DISK_BLOCK) -> int:
    """Bytes of everything in a matrix but its tiles, nearly."""
    return _METADATA_FILES * block + _in_blocks(n_models * _MODEL_BYTES, block)


def _in_blocks(n_bytes: int, block: int) -> int:
    return -(-n_bytes // block) * block
