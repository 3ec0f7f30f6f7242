"""What can be asked of a recommender to forget, as interactions; torch-free (`models.contracts.FamilyTargets`).

A user, or a subject, is all of that user's interactions; an item all interactions with it. Nobody's name is kept apart
from them: who has no interaction left is not in the data any more.
"""

from collections.abc import Mapping
from types import MappingProxyType

from models import record_targets
from models.contracts import Asked
from models.id_index import IdIndex
from models.recommender.pairs import interaction_id
from models.record_targets import absent, remembered, returning

__all__ = ["absent", "classes", "count", "missing", "records", "remembered", "returning"]

_KINDS: Mapping[str, str] = MappingProxyType(
    {"users": "subjects", "subjects": "subjects", "items": "classes", "interactions": "records"}
)


def missing(index: IdIndex, asked: Asked) -> list[str]:
    """Return the users, items or pairs that are not there; see `models.contracts.FamilyTargets.missing`."""
    return record_targets.missing(index, _as_rows(asked))


def records(index: IdIndex, asked: Asked) -> set[str]:
    """Return the interactions that a target is about; see `models.contracts.FamilyTargets.records`."""
    return record_targets.records(index, _as_rows(asked))


def count(index: IdIndex, asked: Asked) -> int:
    """Count them without reading their ids; see `models.contracts.FamilyTargets.count`."""
    return record_targets.count(index, _as_rows(asked))


def classes(asked: Asked) -> tuple[str, ...]:  # noqa: ARG001 - a part of the protocol
    """Return no class: the interactions say all that there is to forget of an item."""
    return ()


def _as_rows(asked: Asked) -> Asked:
    """Return the target in the words of the index, whose subjects are users and whose classes are items."""
    if asked.kind not in _KINDS:
        raise ValueError(f"{asked.kind} are not targets of this family")
    ids = tuple(interaction_id(user, item) for user, item in asked.pairs) or asked.ids
    return Asked(kind=_KINDS[asked.kind], ids=ids)
