"""Turns: any number of processes sweep, one at a time and not more often than need be.

A turn saves work and is no lock: every step of a sweep is safe to be done twice, at the same time too. A process
that dies in its turn therefore only delays the next one.

| kind         | what is done in it                                                              |
| ------------ | ------------------------------------------------------------------------------- |
| `rows`       | what rows say is over: targets, versions, snapshots, references                 |
| `litter`     | files that no row names, answers nobody repeats: takes a look at everything     |
| `compaction` | the database overwrites the bytes of what it has deleted; due after an erasure  |
"""

import datetime as dt
import enum
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import CursorResult, or_, select, update
from sqlalchemy.orm import Session

from app.database import Database, database_now
from app.tables import Sweep

PATIENCE = dt.timedelta(minutes=15)
"""A turn that has not ended after so long is given to the next process."""


class Kind(enum.StrEnum):
    """What is swept."""

    ROWS = "rows"
    LITTER = "litter"
    COMPACTION = "compaction"


def take_turn(database: Database, kind: Kind, pause: dt.timedelta, *, at_once: bool = False) -> bool:
    """Take the next turn, if the last one began `pause` ago and has ended; with `at_once`, in any case."""
    with database.write() as session:
        now = database_now(session)
        ended = or_(Sweep.finished_at.is_not(None), Sweep.begun_at <= now - max(pause, PATIENCE))
        mine = (
            (Sweep.kind == kind)
            if at_once
            else (Sweep.kind == kind) & (Sweep.begun_at <= now - pause) & ended
        )
        result = session.execute(
            update(Sweep)
            .where(mine)
            .values(begun_at=now, finished_at=None)
            .execution_options(synchronize_session=False)
        )
        return isinstance(result, CursorResult) and result.rowcount == 1


@contextmanager
def turn(database: Database, kind: Kind, pause: dt.timedelta, *, at_once: bool = False) -> Iterator[bool]:
    """Yield whether the block has the turn, and end it however the block ends: only a death leaves it open."""
    taken = take_turn(database, kind, pause, at_once=at_once)
    try:
        yield taken
    finally:
        if taken:
            end_turn(database, kind)


def end_turn(database: Database, kind: Kind) -> None:
    """Let others have their turn."""
    with database.write() as session:
        session.execute(
            update(Sweep)
            .where(Sweep.kind == kind)
            .values(finished_at=database_now(session))
            .execution_options(synchronize_session=False)
        )


def make_due(session: Session, kind: Kind, *, due: bool = True) -> None:
    """Note that there is, or is no longer, something to do."""
    session.execute(
        update(Sweep).where(Sweep.kind == kind).values(due=due).execution_options(synchronize_session=False)
    )


def last_turn(session: Session, kind: Kind) -> Sweep:
    """Return when a kind of sweep last began and ended, and whether it is due."""
    return session.execute(select(Sweep).where(Sweep.kind == kind)).scalar_one()
