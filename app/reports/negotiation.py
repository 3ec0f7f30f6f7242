"""Which of the two forms of a report a client would rather have (RFC 9110, section 12.5.1)."""

HTML, JSON = "text/html", "application/json"


def prefers_html(accept: str | None) -> bool:
    """Tell whether a client wants the page; one that takes both alike, or says nothing, gets JSON.

    >>> prefers_html("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
    True
    >>> prefers_html("*/*"), prefers_html(None), prefers_html("application/json, text/html;q=0.5")
    (False, False, False)
    """
    ranges = [_parsed(part) for part in (accept or "*/*").split(",")]
    return _quality(ranges, HTML) > _quality(ranges, JSON)


def _quality(ranges: list[tuple[str, float]], media_type: str) -> float:
    """Return what the most specific range that covers a media type says of it."""
    for pattern in (media_type, f"{media_type.partition('/')[0]}/*", "*/*"):
        found = [quality for name, quality in ranges if name == pattern]
        if found:
            return max(found)
    return 0.0


def _parsed(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip().lower() for piece in part.split(";"))
    for parameter in parameters:
        if parameter.startswith("q="):
            return name, _number(parameter[2:])
    return name, 1.0


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return 0.0  # what cannot be read is not preferred
    return value if 0 <= value <= 1 else 0.0  # NaN is in no range either
