"""Text that a terminal shows and does not obey.

Settings, names and messages may come from a stranger's file. Control characters in them could
move the cursor, rename the window or hide a line; marks of direction could turn a sentence round.
Before text reaches a terminal these are written out, ``\\x1b`` for the escape character.
"""

import logging
import re
import unicodedata
import warnings

# Control characters, marks of direction and the like, halves of characters (as in names that are
# no UTF-8), and separators that some terminals take for the end of a line.
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_SUSPECT, _SUSPECT_OR_END = re.compile(r"[^ -~\n\t]"), re.compile(r"[^ -~]")


def printable(text: object) -> str:
    r"""`text` with all but line ends and tabs of what a terminal would obey written out.

    >>> printable("\x1b[31mred\x1b[0m\n")
    '\\x1b[31mred\\x1b[0m\n'
    """
    return _SUSPECT.sub(_shown, str(text))


def printable_line(text: object) -> str:
    r"""`text` as one line: as `printable`, line ends and tabs written out too.

    >>> printable_line("sgd\nno damage found")
    'sgd\\nno damage found'
    """
    return _SUSPECT_OR_END.sub(_shown, str(text))


def _shown(match: re.Match[str]) -> str:
    character = match[0]
    if unicodedata.category(character) not in _HIDDEN:
        return character
    return character.encode("unicode_escape").decode("ascii")


class _Printable(logging.Formatter):
    """The message alone, as Python prints it where no logging is set up."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def print_plainly() -> None:
    """Let what Python itself prints, warnings and logs, be printable; for programs, once."""
    before = warnings.formatwarning

    def formatted(*arguments: object, **more: object) -> str:
        return printable(before(*arguments, **more))  # type: ignore[arg-type]

    warnings.formatwarning = formatted
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_Printable())
