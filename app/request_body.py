"""Base of JSON request bodies: what no schema should have to say for itself."""

import math
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

MAX_DEPTH = 32
"""Levels of nesting in a body; every schema needs far fewer."""


class RequestBody(BaseModel):
    """A body without unknown fields, made only of values that every database can store.

    JSON can spell text that PostgreSQL refuses (the NUL character) or that is no Unicode at all (lone
    surrogates), and Python's parser takes NaN and Infinity, which are not JSON. They are refused here, before
    a field of any type can let them through.
    """

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _refuse_unstorable(cls, value: object) -> object:
        level: list[object] = [value]
        for _ in range(MAX_DEPTH):
            if not level:
                return value
            level = [child for node in level for child in _children(node)]
        raise ValueError(f"nested more than {MAX_DEPTH} levels deep")


def is_storable_text(text: str) -> bool:
    r"""Tell whether every database can store the text: no NUL character, no lone surrogate.

    >>> [is_storable_text(text) for text in ("Zoë", "a\0b", "\ud800")]
    [True, False, False]
    """
    if "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _children(node: object) -> Iterable[object]:
    if isinstance(node, str):
        _storable(node)
    elif isinstance(node, dict):
        return [*node, *node.values()]
    elif isinstance(node, list):
        return node
    elif isinstance(node, float) and not math.isfinite(node):
        raise ValueError("numbers must be finite")
    return ()


def _storable(text: str) -> str:
    if not is_storable_text(text):
        raise ValueError("text must hold neither NUL characters nor lone surrogates")
    return text


StorableText = Annotated[str, AfterValidator(_storable)]
"""Text from outside a body (a query parameter, say) that goes into a statement."""
