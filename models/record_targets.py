"""Targets that are records, subjects or classes, as a snapshot's index has them; torch-free.

This is all that a family needs whose clients name records by their own ids (`models.contracts.FamilyTargets`). Others
take from here what is the same for them.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

from models.contracts import Asked
from models.id_index import INDEX_NAME, IdIndex


def missing(index: IdIndex, asked: Asked) -> list[str]:
    """Return what the index does not know; see `models.contracts.FamilyTargets.missing`."""
    match asked.kind:
        case "records":
            return index.missing_records(asked.ids)
        case "subjects":
            return index.missing_subjects(asked.ids)
        case "classes":
            return index.missing_classes(asked.ids)
    raise ValueError(f"{asked.kind} are not targets of this family")


def records(index: IdIndex, asked: Asked) -> set[str]:
    """Return the records that a target is about; see `models.contracts.FamilyTargets.records`."""
    match asked.kind:
        case "records":
            return set(asked.ids).difference(index.missing_records(asked.ids))
        case "subjects":
            return set(index.records_of_subjects(asked.ids))
        case "classes":
            return set(index.records_of_classes(asked.ids))
    raise ValueError(f"{asked.kind} are not targets of this family")


def count(index: IdIndex, asked: Asked) -> int:
    """Count them without reading their ids; see `models.contracts.FamilyTargets.count`."""
    match asked.kind:
        case "records":
            return len(asked.ids) - len(index.missing_records(asked.ids))
        case "subjects":
            return index.count_of_subjects(asked.ids)
        case "classes":
            return index.count_of_classes(asked.ids)
    raise ValueError(f"{asked.kind} are not targets of this family")


def classes(asked: Asked) -> tuple[str, ...]:
    """Return the classes that are forgotten whole; see `models.contracts.FamilyTargets.classes`."""
    return tuple(sorted(asked.ids)) if asked.kind == "classes" else ()


def absent(index: IdIndex, record_ids: Collection[str]) -> list[str]:
    """Return the records that a snapshot does not hold; see `models.contracts.FamilyTargets.absent`."""
    return index.missing_records(record_ids)


def remembered(record_ids: Iterable[str]) -> Iterable[str]:
    """Return what is committed to for these records; see `models.contracts.FamilyTargets.remembered`."""
    return record_ids


def returning(
    fetch: Callable[[str], Path], start: int, forgotten: Callable[[Iterable[str]], Iterator[str]]
) -> Iterator[str]:
    """Yield what was forgotten and is there again; see `models.contracts.FamilyTargets.returning`."""
    with IdIndex.open(fetch(INDEX_NAME)) as index:
        yield from forgotten(index.record_ids(start))
