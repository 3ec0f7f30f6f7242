"""The id of an interaction: its user and its item as one string; torch-free."""

import json


def interaction_id(user: str, item: str) -> str:
    r"""Return the record id of an interaction: user and item as compact JSON, so that any two strings fit.

    >>> print(interaction_id("4711", 'say "A"'))
    ["4711","say \"A\""]
    """
    return json.dumps((user, item), ensure_ascii=False, separators=(",", ":"))


def parse_interaction_id(record_id: str) -> tuple[str, str]:
    """Return user and item.

    Raises:
        ValueError: It is not the id of an interaction.

    >>> parse_interaction_id('["u1","i1"]')
    ('u1', 'i1')
    """
    value = json.loads(record_id)
    match value:
        case [str(user), str(item)] if interaction_id(user, item) == record_id:
            return user, item
    raise ValueError("it is not a user and an item as compact JSON")
