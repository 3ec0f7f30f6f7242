"""The one JSON text of a value: what is hashed and signed must be the same bytes for everybody."""

import json
from typing import Any

from models.strict_json import parse_object


def canonical_json(value: Any) -> str:
    r"""Return a value as JSON with sorted keys, without spaces, in ASCII.

    Raises:
        ValueError: It holds a NaN or an infinity, which JSON does not know.

    >>> canonical_json({"b": "é", "a": [1.5, None]})
    '{"a":[1.5,null],"b":"\\u00e9"}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def parse_canonical(text: bytes) -> dict[str, Any]:
    """Read an object and insist on its canonical form, in which every byte counts.

    Raises:
        ValueError: It is something else; the message is a clause like "it is not a JSON object".
    """
    value = parse_object(text)
    try:
        canonical = canonical_json(value).encode()
    except ValueError:
        raise ValueError("it holds a number too large for JSON") from None
    if canonical != text:
        raise ValueError("it is not in canonical form: keep the file byte for byte as it was downloaded")
    return value
