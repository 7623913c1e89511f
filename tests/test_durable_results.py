"""House rule: nothing is written in place. What writes by name writes what `replacing` gave it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Methods that write to the file that they are given, and those that write to their own path.
WRITERS = {"to_csv", "to_parquet", "to_hdf", "to_pickle", "savefig", "savetxt", "write_html",
           "write_image", "tofile", "save_file", "savez", "savez_compressed"}  # fmt: skip
OWNERS = {"write_text", "write_bytes"}
# A place that `replacing` gave (`unfailing`: one opened there), memory, or text as the result.
PLACES = {"partial", "buffer", "unfailing", "None"}
# Runs write shards of several files before one commit; see `docs/design.md`.
# `durable.py` is where files are made beside.
EXCEPT = {"inpca/store/writer.py", "inpca/durable.py"}


def writes_in_place(call: ast.Call) -> bool:
    """Whether a call writes to a file by a name that is not one of `PLACES`."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    first = ast.unparse(call.args[0]) if call.args else "None"
    if name in ("open", "File"):
        modes = [one.value for one in [*call.args, *(key.value for key in call.keywords)]
                 if isinstance(one, ast.Constant) and isinstance(one.value, str)]  # fmt: skip
        return first not in PLACES and any(m[:1] in "wax" for m in modes)
    if name in OWNERS and isinstance(call.func, ast.Attribute):
        return ast.unparse(call.func.value) not in PLACES | {"durable"}
    numpy_or_torch = name == "save" and ast.unparse(call.func) in ("np.save", "torch.save")
    return (name in WRITERS or numpy_or_torch) and first not in PLACES


def test_results__are_never_written_in_place() -> None:
    found = []
    for path in sorted(
        path for place in ("inpca", "collectors") for path in ROOT.glob(f"{place}/**/*.py")
    ):
        place = path.relative_to(ROOT).as_posix()
        calls = (
            one for one in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(one, ast.Call)
        )
        found += [
            f"{place}:{one.lineno}" for one in calls if writes_in_place(one) and place not in EXCEPT
        ]
    assert found == []


@pytest.mark.parametrize(
    "code",
    ["table.to_csv(path)", "open(path, 'w')", "h5py.File(path, 'x')", "np.savez(path, a=a)",
     "path.write_text('x')", "figure.savefig(target, dpi=9)", "path.open('ab')"],
)  # fmt: skip
def test_the_rule__sees_what_it_is_for(code: str) -> None:
    call = ast.parse(code).body[0].value  # type: ignore[attr-defined]
    assert writes_in_place(call)


def test_terminal__is_reached_in_one_place() -> None:
    found = []
    for place in ("inpca", "collectors"):
        for path in ROOT.glob(f"{place}/**/*.py"):
            for one in ast.walk(ast.parse(path.read_text("utf-8"))):
                name = ast.unparse(one.func) if isinstance(one, ast.Call) else ""
                if name in ("print", "typer.echo", "typer.secho", "click.echo", "sys.stdout.write"):
                    found.append(path.relative_to(ROOT).as_posix())
    assert set(found) == {"inpca/cli/services.py"}
