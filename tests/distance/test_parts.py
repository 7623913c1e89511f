"""Parts of one matrix, computed by independent processes: nothing overlaps, nothing is merged."""

import json
import subprocess
import sys

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inpca import InputError, ResourceError, TiledMatrix, pairwise_distances
from inpca.distance.parts import parse_part, tiles_of_part
from inpca.store.claim import claimed, door
from inpca.tiling import TileGrid

TILE = 16


@pytest.fixture(scope="module")
def log_p():
    models = naive.random_models(90, 60, 4).astype(np.float32)
    models[7] = naive.truth(np.arange(60) % 4, 4)[0]
    models[28] = naive.truth(np.arange(60) % 3, 4)[0]
    models[65] = naive.truth(np.arange(60) % 2, 4)[0]
    return models


def write(log_p, out, **options):
    options = {"tile_size": TILE, "executor": 1, **options}
    return pairwise_distances(log_p, kind="log_probs", out=out, **options)


def files(path):
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


@pytest.fixture(scope="module")
def whole(log_p, tmp_path_factory):
    return write(log_p, tmp_path_factory.mktemp("whole") / "d.zarr")


@given(n_bands=st.integers(1, 40), k=st.integers(1, 30))
def test_tiles_of_part__cover_the_triangle_once_in_equal_shares(n_bands, k):
    grid = TileGrid(n_bands, 1)
    parts = [tiles_of_part(grid, (i, k)) for i in range(1, k + 1)]
    assert sorted(tile for part in parts for tile in part) == list(grid.tiles())
    sizes = {len(part) for part in parts}
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("n_bands", "k"), [(64, 4), (64, 16), (150, 16), (150, 100)])
def test_tiles_of_part__need_few_of_the_models(n_bands, k):
    grid = TileGrid(n_bands, 1)
    needed = [
        len({band for tile in tiles_of_part(grid, (i, k)) for band in tile})
        for i in range(1, k + 1)
    ]
    assert np.mean(needed) < 2.2 * n_bands / np.sqrt(k)


@pytest.mark.parametrize(("text", "part"), [("3/16", (3, 16)), (" 1 / 1 ", (1, 1))])
def test_parse_part__takes_text_and_pairs(text, part):
    assert parse_part(text) == parse_part(part) == parse_part(list(part)) == part


@pytest.mark.parametrize(
    "part", ["17/16", "0/4", "x", "3", "", "-1/4", "1/0", "1/2/3", (0, 4), (3, 2), (1,), (1.0, 2)]
)
def test_distances__refuse_a_part_that_is_none_before_any_work(log_p, tmp_path, part):
    with pytest.raises(InputError, match="`part` must be i/k"):
        write(log_p, tmp_path / "d.zarr", part=part)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("k", [1, 2, 3, 30])
def test_parts__one_after_the_other_fill_one_output_with_the_bytes_of_one_process(
    whole, log_p, tmp_path, k
):
    out = tmp_path / "d.zarr"
    for i in np.random.default_rng(k).permutation(np.arange(1, k + 1)).tolist():
        assert not out.exists() or not TiledMatrix.open(out).complete
        matrix = write(log_p, out, part=(i, k))
    assert matrix.attrs["finished"]
    assert matrix.attrs["floored"] == naive.floored(log_p[[7, 28, 65]])
    assert files(out) == files(whole.path)
    assert {entry.name for entry in tmp_path.iterdir()} == {"d.zarr", "d.zarr.lock"}


def test_parts__say_what_they_have_computed_and_what_is_left(log_p, tmp_path, caplog):
    caplog.set_level("INFO", "inpca.distance")
    n_tiles = TileGrid(len(log_p), TILE).n_tiles
    _, first = write(log_p, tmp_path / "d.zarr", part="1/2", return_info=True)
    assert first.missing == n_tiles - first.plan.n_tiles > 0
    said = [text for text in caplog.messages if text.startswith("part 1 of 2")]
    left = f"{first.missing} of {n_tiles} of the matrix still to do"
    assert said == [f"part 1 of 2: {first.plan.n_tiles} tiles computed; {left}"]
    _, second = write(log_p, tmp_path / "d.zarr", part="2/2", return_info=True)
    assert (second.plan.n_tiles, second.missing) == (first.missing, 0)
    said = [text for text in caplog.messages if text.startswith("part 2 of 2")]
    assert said == [f"part 2 of 2: {first.missing} tiles computed; the matrix is whole"]
    assert write(log_p, tmp_path / "e.zarr", return_info=True)[1].missing == 0


def test_parts__more_than_there_are_tiles_are_told(log_p, tmp_path, caplog):
    n_tiles = TileGrid(len(log_p), TILE).n_tiles
    _, info = write(log_p, tmp_path / "d.zarr", part=(1, n_tiles + 3), return_info=True)
    assert (info.plan.n_tiles, info.missing) == (0, n_tiles)
    assert f"{n_tiles + 3} parts are more than the {n_tiles} tiles of " in caplog.text
    assert "3 of them have nothing to compute" in caplog.text


def test_parts__resume_and_may_be_cut_anew(whole, log_p, tmp_path):
    out = tmp_path / "d.zarr"
    write(log_p, out, part="2/3")
    _, info = write(log_p, out, part="2/3", return_info=True)
    assert info.plan.n_tiles == 0
    write(log_p, out, part="1/2")
    write(log_p, out)
    assert files(out) == files(whole.path)


JOB = """
import json, sys
import numpy as np
import inpca
sys.stdin.read()  # all begin together
matrix, info = inpca.pairwise_distances(
    np.load(sys.argv[1]), kind="log_probs", out=sys.argv[2], tile_size=16, executor=1,
    part=sys.argv[3], return_info=True, memory="20MB",
)
print(json.dumps(info.plan.n_tiles))
"""


def test_parts__begun_at_once_make_one_output_with_the_bytes_of_one_process(whole, log_p, tmp_path):
    np.save(tmp_path / "log_p.npy", log_p)
    out = tmp_path / "out" / "d.zarr"
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", JOB, tmp_path / "log_p.npy", out, f"{i}/4"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(1, 5)
    ]
    for job in jobs:
        job.stdin.close()
    tiles = []
    for job in jobs:
        with job:
            tiles.append(json.loads(job.stdout.read()))
        assert job.returncode == 0
    assert sum(tiles) == whole.grid.n_tiles
    assert files(out) == files(whole.path)
    assert {entry.name for entry in out.parent.iterdir()} == {"d.zarr", "d.zarr.lock"}


@pytest.mark.parametrize(
    ("held", "asked", "allowed"),
    [
        ((1, 4), (2, 4), True),
        ((1, 4), (1, 4), False),
        ((1, 4), (1, 1), False),
        ((1, 1), (1, 4), False),
        ((1, 4), (2, 3), False),
        ((1, 1), (1, 1), False),
    ],
)
def test_parts__are_let_in_beside_other_parts_of_the_same_job_alone(
    log_p, tmp_path, held, asked, allowed
):
    out = tmp_path / "d.zarr"
    write(log_p, out)
    before = files(out)
    with door(out):
        claim = claimed(out, held)
        claim.__enter__()
    try:
        if allowed:
            write(log_p, out, part=asked)
        else:
            with pytest.raises(ResourceError, match="being written by another process"):
                write(log_p, out, part=asked)
    finally:
        claim.__exit__(None, None, None)
    assert files(out) == before
    write(log_p, out, part=asked)


def test_parts__leave_the_files_of_other_parts_at_work_alone(log_p, tmp_path):
    out = tmp_path / "d.zarr"
    write(log_p, out, part=(1, 2))
    at_work = out / "distance" / "c.0.5.77.partial"
    at_work.write_bytes(b"half")
    with door(out):
        claim = claimed(out, (2, 2))
        claim.__enter__()
    write(log_p, out, part=(1, 2))
    assert at_work.exists()
    claim.__exit__(None, None, None)
    write(log_p, out, part=(2, 2))
    assert not at_work.exists()


def test_missing__does_not_look_at_what_another_part_is_about_to_rename(log_p, tmp_path):
    """A partial file may be gone between the listing and the question for its size."""
    matrix = write(log_p, tmp_path / "d.zarr", part=(1, 2))
    expected = matrix.missing()
    (matrix.path / "distance" / "c.0.5.77.partial").symlink_to("gone")
    (matrix.path / "floored" / "c.0.5.77.partial").symlink_to("gone")
    assert matrix.missing() == expected
    assert matrix.floored() == TiledMatrix.open(matrix.path).floored()


@pytest.mark.parametrize("option", ["restart", "repair"])
def test_parts__must_not_undo_what_the_others_share(log_p, tmp_path, option):
    with pytest.raises(InputError, match=f"without `part` and with {option}=True"):
        write(log_p, tmp_path / "d.zarr", part="1/2", **{option: True})


def test_part__needs_an_output(log_p):
    with pytest.raises(InputError, match="`part` needs `out`"):
        pairwise_distances(log_p, kind="log_probs", part="1/2")
