"""A YAML file that remembers on which line each value stands, so that errors can show it."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from collectors.zoo.suggest import nearest
from inpca.errors import InputError, MissingExtraError

try:
    import yaml
except ImportError as error:
    raise MissingExtraError(
        f"Sweeps are read with PyYAML, which cannot be imported ({error}); "
        "pip install 'inpca[torch]'."
    ) from error


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

    def fail(self, message: str) -> NoReturn:
        """Raise `InputError` with the file, the line and its text."""
        self.file.fail(self.line, message)

    def mapping(self, valid: Iterable[str]) -> "dict[str, Entry]":
        """The entries of a dictionary whose keys are among `valid`."""
        if not isinstance(self.value, dict):
            self.fail(f"{self.name} must be a mapping (key: value), not {self.value!r}.")
        names = list(valid)
        for key, entry in self.value.items():
            if key not in names:
                entry.fail(f"{self.name} has the unknown key {key!r}; {nearest(key, names)}.")
        return dict(self.value)

    def items(self) -> "list[Entry]":
        """The entries of a list; a single value is a list of one."""
        return list(self.value) if isinstance(self.value, list) else [self]

    def choice(self, valid: Iterable[str]) -> str:
        """A word out of `valid`."""
        names = list(valid)
        if self.value not in names:
            self.fail(f"{self.name} {self.value!r} is unknown; {nearest(str(self.value), names)}.")
        return str(self.value)

    def text(self) -> str:
        """A word."""
        if not isinstance(self.value, str):
            plain = isinstance(self.value, int | float)
            cure = f'; put it in quotes, as in "{self.value}"' if plain else ""
            self.fail(f"{self.name} must be text, not {self.value!r}{cure}.")
        return self.value

    def flag(self) -> bool:
        """True or false."""
        if not isinstance(self.value, bool):
            self.fail(f"{self.name} must be true or false, not {self.value!r}.")
        return self.value

    def number(self, *, above: float = -float("inf"), at_least: float = -float("inf")) -> float:
        """A number; ``1e-3``, which YAML takes for text for want of a point, is one too."""
        try:
            number = float("nan") if isinstance(self.value, bool) else float(self.value)
        except (TypeError, ValueError):
            number = float("nan")
        if not (above < number < float("inf") and at_least <= number):
            rule = f"above {above:g}" if above > -float("inf") else f"at least {at_least:g}"
            self.fail(f"{self.name} must be a number {rule}, not {self.value!r}.")
        return number

    def whole(self, at_least: int) -> int:
        """A whole number."""
        if not isinstance(self.value, int) or isinstance(self.value, bool):
            self.fail(f"{self.name} must be a whole number, not {self.value!r}.")
        if self.value < at_least:
            self.fail(f"{self.name} must be at least {at_least}, not {self.value}.")
        return int(self.value)


class YamlFile:
    """The file at `path`, read by PyYAML's safe loader."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
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
        if node is None:
            raise InputError(f"The sweep file {path} is empty.")
        self.root = self._entry(node, "the sweep")

    def fail(self, line: int, message: str) -> NoReturn:
        """Raise `InputError` that shows the line."""
        text = self._lines[line - 1].rstrip() if 0 < line <= len(self._lines) else ""
        raise InputError(f"{self.path}, line {line}: {message}\n  {line:>4} | {text}")

    def _entry(self, node: yaml.Node, name: str, line: int | None = None) -> Entry:
        """Entries of a node; a mapping's values stand where their keys do."""
        line = node.start_mark.line + 1 if line is None else line
        if isinstance(node, yaml.MappingNode):
            return Entry(self._pairs(node), line, self, name)
        if isinstance(node, yaml.SequenceNode):
            items = [self._entry(item, name) for item in node.value]
            return Entry(items, line, self, name)
        try:
            value = self._constructor.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            self.fail(line, f"the value cannot be read: {error}.")
        return Entry(value, line, self, name)

    def _pairs(self, node: yaml.MappingNode) -> dict[str, Entry]:
        pairs: dict[str, Entry] = {}
        for key_node, value_node in node.value:
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if key in pairs:
                self.fail(line, f"the key {key!r} stands twice, first on line {pairs[key].line}.")
            pairs[key] = self._entry(value_node, f"`{key}`", line)
        return pairs
