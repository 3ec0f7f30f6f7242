"""JSON that came from outside: one object, no key twice, no NaN, bounded depth."""

import json
from typing import Any

MAX_DEPTH = 32


def parse_object(text: bytes | str, *, max_depth: int = MAX_DEPTH) -> dict[str, Any]:
    """Parse a JSON object strictly. The caller bounds the length of `text`.

    Python's own parser keeps the last of two equal keys and accepts `NaN`; both let two readers of one file
    see two different things, so both are refused. Depth is bounded far below the interpreter's recursion
    limit, so that what passes here can also be walked by code that is already some calls deep.

    Raises:
        ValueError: The text is not such an object; the message is a clause like "it is not valid JSON".

    >>> parse_object('{"a": [1, 2]}')
    {'a': [1, 2]}
    >>> parse_object('{"a": 1, "a": 2}')
    Traceback (most recent call last):
    ...
    ValueError: the key 'a' occurs twice
    """
    try:
        # Decoded here, because json.loads would also accept UTF-16 and UTF-32.
        text = text if isinstance(text, str) else text.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not valid JSON ({error.msg} at character {error.pos})") from None
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")  # noqa: TRY004 - bad input, not a caller's wrong type
    _check_depth(value, max_depth)
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {key[:100]!r} occurs twice")
            seen.add(key)
    return result


def _refuse_constant(name: str) -> None:
    raise ValueError(f"it contains {name}, which is not JSON")


def _check_depth(value: object, max_depth: int) -> None:
    level: list[object] = [value]
    for _ in range(max_depth):
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)  # type: ignore[attr-defined]
            if isinstance(child, (dict, list))
        ]
        if not level:
            return
    raise ValueError(f"it is nested more than {max_depth} levels deep")
