"""Forgotten record ids, kept as commitments alone, so that the records cannot come back unnoticed."""

import hmac
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from sqlalchemy import exists, func, insert, select
from sqlalchemy.orm import Session

from app.tables import Dataset, Suppression
from models.families import get_family

BATCH = 1000
"""Commitments per statement: below every database's limit on parameters."""


def commitments(key: bytes, ids: Iterable[str]) -> list[bytes]:
    """Return HMAC-SHA256(key, id) of each id, in their order."""
    return [hmac.digest(key, name.encode(), "sha256") for name in ids]


def suppressed(session: Session, dataset: Dataset, ids: Iterable[str]) -> Iterator[str]:
    """Yield those of `ids` that were forgotten, in their order; `ids` is read in batches, as they are asked for."""
    if not session.execute(select(exists().where(Suppression.dataset_id == dataset.id))).scalar_one():
        return  # nothing was ever forgotten here: the usual case, and ids need no hashing
    for batch in _batches(ids):
        yield from _suppressed_of(session, dataset, batch)


def forgotten_in(
    session: Session, dataset: Dataset, fetch: Callable[[str], Path], *, start: int = 0
) -> Iterator[str]:
    """Yield what a snapshot holds although it was forgotten.

    Args:
        session: A session to look it up in, open for as long as anything is asked for.
        dataset: The snapshot's.
        fetch: Gives a local copy of one of the snapshot's files, by its name.
        start: The first record to look at.

    Raises:
        DatasetError: The snapshot is damaged.
    """
    targets = get_family(dataset.family).targets()
    return targets.returning(fetch, start, partial(suppressed, session, dataset))


def count_suppressed(session: Session, dataset: Dataset) -> int:
    """Return how many record ids were ever forgotten; it only grows."""
    query = select(func.count()).select_from(Suppression).where(Suppression.dataset_id == dataset.id)
    return session.execute(query).scalar_one()


def suppress(session: Session, dataset: Dataset, ids: Iterable[str]) -> None:
    """Remember that these records were forgotten; ids that were forgotten before change nothing.

    The caller holds the lock on the dataset's row, so no other transaction adds the same ones.
    """
    for batch in _batches(dict.fromkeys(ids)):
        known = set(_suppressed_of(session, dataset, batch))
        rows = [
            {"dataset_id": dataset.id, "commitment": commitment}
            for name, commitment in zip(batch, commitments(dataset.suppression_key, batch), strict=True)
            if name not in known
        ]
        if rows:
            session.execute(insert(Suppression), rows)


def _suppressed_of(session: Session, dataset: Dataset, names: list[str]) -> list[str]:
    hashed = commitments(dataset.suppression_key, names)
    found = set(
        session.scalars(
            select(Suppression.commitment).where(
                Suppression.dataset_id == dataset.id, Suppression.commitment.in_(hashed)
            )
        )
    )
    return [name for name, commitment in zip(names, hashed, strict=True) if commitment in found]


def _batches(names: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(names)
    while batch := list(islice(iterator, BATCH)):
        yield batch
