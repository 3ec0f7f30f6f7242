"""Figures and names as people read them."""

import math
import unicodedata
from datetime import datetime

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
MINUS = "\N{MINUS SIGN}"


def number(value: float | None) -> str:
    r"""Return a figure with four digits that count.

    >>> number(0.97333333), number(5.5339e-33), number(1378), number(None)
    ('0.9733', '5.534·10⁻³³', '1378', 'not measured')
    >>> number(-12.0) == "\N{MINUS SIGN}12"
    True
    """
    if value is None:
        return "not measured"
    if not math.isfinite(value):
        return "not finite"
    if isinstance(value, int):
        return str(value).replace("-", MINUS)
    text = f"{value:.4g}"
    mantissa, _, exponent = text.partition("e")
    if exponent:
        return f"{mantissa}·10{str(int(exponent)).translate(SUPERSCRIPTS)}".replace("-", MINUS)
    return text.replace("-", MINUS)


def duration(seconds: float) -> str:
    """Return a length of time.

    >>> duration(0.1419), duration(7.52), duration(200), duration(7384)
    ('0.14 s', '7.5 s', '3 min 20 s', '2 h 3 min')
    """
    if seconds < 10:  # noqa: PLR2004 - seconds
        return f"{seconds:.2g} s"
    if seconds < 60:  # noqa: PLR2004 - seconds
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    return f"{hours} h {left} min" if hours else f"{minutes} min {rest} s"


def moment(value: datetime | None) -> str:
    """Return a point in time, in UTC."""
    return value.strftime("%-d %B %Y, %H:%M:%S UTC") if value is not None else "not recorded"


def plain(text: str) -> str:
    r"""Return a text on one line, without characters that are not seen: they can turn a sentence round.

    >>> plain("a\x00b\u202ec \n d")
    'a�b�c d'
    """
    hidden = {"Cc", "Cf", "Cs"}
    return "".join(
        "�" if unicodedata.category(letter) in hidden else letter for letter in " ".join(text.split())
    )


def counted(count: int, one: str, many: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "request", "requests"), counted(2, "request", "requests")
    ('1 request', '2 requests')
    """
    return f"{count} {one if count == 1 else many}"
