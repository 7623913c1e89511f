"""Bytes and seconds, read and written the way people do."""

import re

from inpca.errors import InputError

_FACTORS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_PATTERN = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*([KMGT]?)(i?)B?\s*", re.IGNORECASE)


def count(number: int, noun: str) -> str:
    """A number of things, in the plural unless it is one.

    >>> count(1, "row"), count(1200, "row")
    ('1 row', '1,200 rows')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def parse_bytes(value: int | float | str, name: str = "memory") -> int:
    """Bytes in `value`: a number, or text such as ``"300MB"``, ``"1.5 GiB"``, ``"8e9"``.

    Raises
    ------
    InputError
        If `value` is not a positive amount.

    Examples
    --------
    >>> parse_bytes("300MB"), parse_bytes("1 GiB")
    (300000000, 1073741824)
    """
    amount = _amount(value)
    if amount is None or amount < 1:
        raise InputError(
            f"`{name}` must be a positive amount of bytes such as 4_000_000_000, '4GB' or '4GiB', "
            f"not {value!r}."
        )
    return int(amount)


def _amount(value: int | float | str) -> float | None:
    try:
        return float(value)
    except ValueError:
        match = _PATTERN.fullmatch(str(value))
    if match is None:
        return None
    number, unit, binary = match.groups()
    factor = _FACTORS[unit.upper()]
    if binary:
        factor = 1024 ** list(_FACTORS).index(unit.upper())
    return float(number) * factor


def format_bytes(n_bytes: float) -> str:
    """`n_bytes` with a decimal unit and three digits.

    >>> format_bytes(46_000_000_000)
    '46.0 GB'
    """
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(n_bytes) < 999.5 or unit == "TB":
            break
        n_bytes /= 1000
    return (
        f"{n_bytes:.0f} {unit}"
        if unit == "B"
        else f"{n_bytes:.0f} {unit}"
        if n_bytes >= 100
        else f"{n_bytes:.1f} {unit}"
    )


def format_seconds(seconds: float) -> str:
    """`seconds` as people say it.

    >>> format_seconds(0.25), format_seconds(75), format_seconds(9000)
    ('0.25 s', '1 min 15 s', '2 h 30 min')
    """
    if seconds < 9.95:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
