"""A YAML file that remembers on which line each value stands, so that errors can show it."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from collectors.zoo.suggest import nearest
from inpca.errors import InputError, MissingExtraError
from inpca.opening import UNREADABLE, read_regular

try:
    import yaml
except ImportError as error:
    raise MissingExtraError(
        f"Sweeps are read with PyYAML, which cannot be imported ({error}); "
        "pip install 'inpca[torch]'."
    ) from error


# A sweep is written by a person: larger files are something else, or mean harm.
_LARGEST = 2**20  # bytes
_NO_SWEEP = ", so the sweep cannot be read; check the path."
_MOST_ENTRIES = 100_000
_DEEPEST = 20  # levels
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_LONGEST_NUMBER = 1000  # characters


@dataclass(frozen=True)
class Entry:
    """A value of the file: a scalar, a list of entries, or a dictionary of entries.

    Attributes
    ----------
    value : what stands there
    line : on which line, counted from 1
    file : the file
    name : what the value belongs to, for messages
    """

    value: Any
    line: int
    file: "YamlFile"
    name: str

    @property
    def shown(self) -> str:
        """The value for a message; a list or a mapping by its size, it may be endless."""
        if isinstance(self.value, list | dict):
            return f"a {type(self.value).__name__} of {len(self.value)}"
        return f"{self.value!r:.200}"

    def fail(self, message: str) -> NoReturn:
        """Raise `InputError` with the file, the line and its text."""
        self.file.fail(self.line, message)

    def mapping(self, valid: Iterable[str]) -> "dict[str, Entry]":
        """The entries of a dictionary whose keys are among `valid`."""
        if not isinstance(self.value, dict):
            self.fail(f"{self.name} must be a mapping (key: value), not {self.shown}.")
        names = list(valid)
        for key, entry in self.value.items():
            if key not in names:
                entry.fail(f"{self.name} has the unknown key {key!r}; {nearest(key[:100], names)}.")
        return dict(self.value)

    def items(self) -> "list[Entry]":
        """The entries of a list; a single value is a list of one."""
        return list(self.value) if isinstance(self.value, list) else [self]

    def choice(self, valid: Iterable[str]) -> str:
        """A word out of `valid`."""
        names = list(valid)
        if self.value not in names:
            word = self.value if isinstance(self.value, str) else self.shown
            self.fail(f"{self.name} {self.shown} is unknown; {nearest(word[:100], names)}.")
        return str(self.value)

    def text(self) -> str:
        """A word."""
        if not isinstance(self.value, str):
            plain = isinstance(self.value, int | float)
            cure = f'; put it in quotes, as in "{self.value}"' if plain else ""
            self.fail(f"{self.name} must be text, not {self.shown}{cure}.")
        return self.value

    def flag(self) -> bool:
        """True or false."""
        if not isinstance(self.value, bool):
            self.fail(f"{self.name} must be true or false, not {self.shown}.")
        return self.value

    def number(self, *, above: float = -float("inf"), at_least: float = -float("inf")) -> float:
        """A number; ``1e-3``, which YAML takes for text for want of a point, is one too."""
        try:
            number = float("nan") if isinstance(self.value, bool) else float(self.value)
        except (TypeError, ValueError):
            number = float("nan")
        if not (above < number < float("inf") and at_least <= number):
            rule = f"above {above:g}" if above > -float("inf") else f"at least {at_least:g}"
            self.fail(f"{self.name} must be a number {rule}, not {self.shown}.")
        return number

    def whole(self, at_least: int, at_most: int | None = None) -> int:
        """A whole number."""
        if not isinstance(self.value, int) or isinstance(self.value, bool):
            self.fail(f"{self.name} must be a whole number, not {self.shown}.")
        if self.value < at_least:
            self.fail(f"{self.name} must be at least {at_least}, not {self.value}.")
        if at_most is not None and self.value > at_most:
            self.fail(f"{self.name} must be at most {at_most:,}, not {self.shown}.")
        return int(self.value)


class YamlFile:
    """The file at `path`, read by PyYAML's safe loader."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._n_entries = 0
        try:
            text = read_regular(path, _LARGEST, _NO_SWEEP).decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"The sweep file {path} cannot be read ({error}).") from error
        self._lines = text.splitlines()
        self._constructor = yaml.constructor.SafeConstructor()
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            self.fail(mark.line + 1 if mark else 1, f"this is no YAML: {error.problem}.")
        except yaml.YAMLError as error:
            raise InputError(f"{path} is no YAML: {error}.") from error
        except RecursionError:
            raise InputError(f"{path} is nested too deeply; a sweep needs four levels.") from None
        if node is None:
            raise InputError(f"The sweep file {path} is empty.")
        self.root = self._entry(node, "the sweep")

    def fail(self, line: int, message: str) -> NoReturn:
        """Raise `InputError` that shows the line."""
        text = self._lines[line - 1].rstrip() if 0 < line <= len(self._lines) else ""
        raise InputError(f"{self.path}, line {line}: {message}\n  {line:>4} | {text}")

    def _entry(self, node: yaml.Node, name: str, line: int | None = None, depth: int = 0) -> Entry:
        """Entries of a node; a mapping's values stand where their keys do.

        Counted, because a few lines of aliases (``*a``) stand for any number of values, or for
        themselves.
        """
        line = node.start_mark.line + 1 if line is None else line
        self._n_entries += 1
        if depth > _DEEPEST or self._n_entries > _MOST_ENTRIES:
            what = f"{_DEEPEST} levels" if depth > _DEEPEST else f"{_MOST_ENTRIES:,} values"
            self.fail(line, f"the file has more than {what}, aliases followed; write fewer.")
        if isinstance(node, yaml.MappingNode):
            return Entry(self._pairs(node, depth + 1), line, self, name)
        if isinstance(node, yaml.SequenceNode):
            items = [self._entry(item, name, depth=depth + 1) for item in node.value]
            return Entry(items, line, self, name)
        return Entry(self._scalar(node, line), line, self, name)

    def _scalar(self, node: yaml.ScalarNode, line: int) -> Any:
        if node.tag in _NUMBERS and len(node.value) > _LONGEST_NUMBER:
            self.fail(line, f"the number has {len(node.value):,} characters; write a shorter one.")
        try:
            return self._constructor.construct_object(node)
        # PyYAML trips over values that do not fit their tags (``!!int x``) in any of these ways.
        except (yaml.YAMLError, *UNREADABLE) as error:
            self.fail(line, f"the value cannot be read: {getattr(error, 'problem', error)}.")

    def _pairs(self, node: yaml.MappingNode, depth: int) -> dict[str, Entry]:
        pairs: dict[str, Entry] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.fail(line, "a key must be a word, not a list or a mapping.")
            key = str(key_node.value)
            if key in pairs:
                self.fail(line, f"the key {key!r} stands twice, first on line {pairs[key].line}.")
            pairs[key] = self._entry(value_node, f"`{key}`", line, depth)
        return pairs
