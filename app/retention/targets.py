"""Erasing what forget requests name, once nobody needs to know it any more.

| the request is                    | its ids and the key of their commitments are erased                        |
| --------------------------------- | -------------------------------------------------------------------------- |
| completed, cancelled or refused   | at the end of the retention after that                                     |
| failed                            | at the end of the retention after its failure or its due date, if that is later: until then it can be retried |
| pending, running, needs_review    | never: somebody still owes an answer, and cannot give it without the ids   |
"""

import datetime as dt

from sqlalchemy import ColumnElement, and_, or_, select, text
from sqlalchemy.orm import Session

from app.database import Database, database_now
from app.forget_requests.states import FINAL
from app.retention.periods import target_retention
from app.retention.turns import Kind, make_due
from app.settings import Settings
from app.tables import AuditRun, Event, ForgetRequest, IdempotencyRecord, Job
from app.tables.forget_request import ERASABLE, RequestStatus
from app.tables.job import JobState

BATCH = 500
ERASED = "erased"
REASON = "Its target's ids, and the key of their commitments, were erased at the end of their retention."
SHORTEST_MEMORY = dt.timedelta(days=1)
"""A client that repeats a call may count on the first answer for so long, whatever the retention."""

ENDED = (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED, JobState.ABANDONED)


def erase_targets(database: Database, settings: Settings) -> int:
    """Erase the targets whose retention is over; return how many."""
    erased = 0
    while True:
        with database.write() as session:
            now = database_now(session)
            requests = session.scalars(
                select(ForgetRequest)
                .where(text(ERASABLE), _is_over(now - target_retention(settings)))  # as its index says it
                .order_by(ForgetRequest.updated_at, ForgetRequest.id)
                .limit(BATCH)
                .with_for_update(skip_locked=True, key_share=True)
            ).all()
            for request in requests:
                _erase(session, request, now)
            if requests:
                make_due(session, Kind.COMPACTION)
        erased += len(requests)
        if len(requests) < BATCH:
            return erased


def erase_leftovers(database: Database) -> int:
    """Erase what audits that have ended were about; return how many."""
    ended = select(Job.id).where(Job.state.in_(ENDED))
    with database.write() as session:
        runs = session.scalars(
            select(AuditRun).where(AuditRun.target.is_not(None), AuditRun.job_id.in_(ended)).with_for_update()
        ).all()
        for run in runs:
            run.target = None
        if runs:
            make_due(session, Kind.COMPACTION)
    return len(runs)


def forget_answers(database: Database, settings: Settings) -> int:
    """Delete the answers to calls that nobody will repeat any more; return how many."""
    deleted = 0
    while True:
        with database.write() as session:
            before = database_now(session) - max(target_retention(settings), SHORTEST_MEMORY)
            records = session.scalars(
                select(IdempotencyRecord)
                .where(IdempotencyRecord.created_at <= before)
                .limit(BATCH)
                .with_for_update(skip_locked=True)
            ).all()
            for record in records:
                session.delete(record)
        deleted += len(records)
        if len(records) < BATCH:
            return deleted


def _is_over(before: dt.datetime) -> ColumnElement[bool]:
    failed = and_(ForgetRequest.status == RequestStatus.FAILED, ForgetRequest.due_at <= before)
    return and_(ForgetRequest.updated_at <= before, or_(ForgetRequest.status.in_(FINAL), failed))


def _erase(session: Session, request: ForgetRequest, now: dt.datetime) -> None:
    request.target = None
    request.commitment_key = None
    session.add(
        Event(
            forget_request_id=request.id,
            type=ERASED,
            status=request.status.value,
            reason=REASON,
            created_at=now,
        )
    )
