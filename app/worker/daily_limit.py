"""How much of a model may be forgotten in a day without a person: a flood of demands must not take a model apart.

The limit is a share of the records that the model had learned when the last 24 hours began, and at least one record.
What was forgotten since stands in the snapshots of its versions. At a claim, requests that name records are admitted
by their number alone while that suffices, which it nearly always does. Otherwise, and where subjects or classes are
named, the claim is given up, the requests are weighed (which records they come to, each counted once) outside any
transaction, those beyond the limit are left to a person, and the claim is tried again with the others.
"""

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased

from app.database import database_now
from app.forget_requests.states import change_status
from app.locks import lock_model
from app.runtime import Runtime
from app.settings import Settings
from app.tables import Dataset, ForgetRequest, Model, Snapshot, Version
from app.tables.forget_request import RequestStatus
from app.tables.version import VersionOrigin
from models.errors import DatasetError
from models.id_index import IdIndex
from unlearning.errors import TargetError
from unlearning.targets import TARGET, count_records, resolve_target

DAY = dt.timedelta(days=1)
BY_NUMBER = frozenset({"records", "nodes", "node_features", "edges", "interactions"})
"""Kinds of target that come to no more records than they name things."""


class WeighingNeededError(Exception):
    """Whether a model's daily limit allows these requests cannot be told from their rows."""

    def __init__(self, model_id: uuid.UUID, request_ids: Sequence[uuid.UUID]) -> None:
        super().__init__(str(model_id))
        self.model_id = model_id
        self.request_ids = request_ids


@dataclass(frozen=True)
class Weighed:
    """Requests of one model whose records were counted."""

    within: frozenset[uuid.UUID]
    records: int
    """How many records they come to, together."""


def admit(
    session: Session,
    settings: Settings,
    model: Model,
    requests: Sequence[ForgetRequest],
    now: dt.datetime,
    weighed: Weighed | None,
) -> Sequence[ForgetRequest]:
    """Return those of the requests that the daily limit lets through.

    Raises:
        WeighingNeededError: That cannot be told before they are weighed.
    """
    limited = [request for request in requests if request.limit_waived_at is None]
    if settings.max_forgotten_share_per_day >= 1 or not limited:
        return requests
    left = records_left(session, settings, model, now)
    by_number = all(request.target_kind in BY_NUMBER for request in limited)
    if by_number and sum(request.target_count for request in limited) <= left:
        return requests
    known = weighed.within if weighed is not None and weighed.records <= left else frozenset()
    admitted = [request for request in requests if request.limit_waived_at or request.id in known]
    if not admitted:
        raise WeighingNeededError(model.id, [request.id for request in limited])
    return admitted


def records_left(session: Session, settings: Settings, model: Model, now: dt.datetime) -> int:
    """Return how many more records a model may forget at present; below 0 where a person let more through."""
    latest = session.get_one(Version, (model.id, model.latest_version))
    learned = session.get_one(Snapshot, (latest.dataset_id, latest.snapshot)).records
    parent, before, after = aliased(Version), aliased(Snapshot), aliased(Snapshot)
    query = (
        select(func.coalesce(func.sum(before.records - after.records), 0))
        .select_from(Version)
        .join(parent, (parent.model_id == Version.model_id) & (parent.number == Version.parent))
        .join(before, (before.dataset_id == parent.dataset_id) & (before.number == parent.snapshot))
        .join(after, (after.dataset_id == Version.dataset_id) & (after.number == Version.snapshot))
        .where(
            Version.model_id == model.id,
            Version.origin == VersionOrigin.UNLEARNED,
            Version.created_at > now - DAY,
        )
    )
    forgotten = int(session.execute(query).scalar_one())  # PostgreSQL's sums are decimals
    return max(1, int(settings.max_forgotten_share_per_day * (learned + forgotten))) - forgotten


def weigh(runtime: Runtime, needed: WeighingNeededError) -> Weighed:
    """Count the records of requests, the oldest first, and leave those beyond the limit to a person.

    Raises:
        OSError: The storage cannot be read at present.
    """
    with runtime.database.read() as session:
        model = session.get_one(Model, needed.model_id)
        left = records_left(session, runtime.settings, model, database_now(session))
        version = session.get_one(Version, (model.id, model.latest_version))
        learned_at = session.get_one(Snapshot, (version.dataset_id, version.snapshot)).location
        dataset = session.get_one(Dataset, model.dataset_id)
        family = dataset.family
        head_at = session.get_one(Snapshot, (dataset.id, dataset.head_snapshot)).location
        requests = session.scalars(
            select(ForgetRequest)
            .where(ForgetRequest.id.in_(needed.request_ids))
            .order_by(ForgetRequest.created_at, ForgetRequest.id)
        ).all()
    try:
        learned, head = runtime.indexes.get(learned_at), runtime.indexes.get(head_at)
    except DatasetError:
        # Their job will find the data damaged and publish nothing, which is the better reason to fail for.
        return Weighed(frozenset(needed.request_ids), 0)
    counted: set[str] = set()
    within, beyond = [], []
    for request in requests:
        records = _records(family, request, learned, head, most=left)
        if records is None or len(counted | records) > left:
            beyond.append(request.id)
        else:
            counted |= records
            within.append(request.id)
    if beyond:
        _leave_to_a_person(runtime, needed.model_id, beyond)
    return Weighed(frozenset(within), len(counted))


def _records(
    family: str, request: ForgetRequest, learned: IdIndex, head: IdIndex, *, most: int
) -> set[str] | None:
    """Return the records that a request is about, None where they are more than `most`.

    A target that exists no longer comes to none: its job will say so.
    """
    if request.target is None:
        return set()
    target = TARGET.validate_python(request.target)
    try:
        if count_records(family, learned, target) > most:
            return None  # a class may be too large to be listed for nothing
        return set(resolve_target(family, learned, target, also=head).record_ids)
    except TargetError:
        return set()


def _leave_to_a_person(runtime: Runtime, model_id: uuid.UUID, request_ids: Sequence[uuid.UUID]) -> None:
    share = runtime.settings.max_forgotten_share_per_day
    reason = (
        f"A limit was hit: with it, more than {share:.4g} of the model's records would be forgotten within 24 hours. "
        "A person must decide: try it again later, or waive the limit."
    )
    with runtime.database.write() as session:
        lock_model(session, model_id)
        requests = session.scalars(
            select(ForgetRequest)
            .where(
                ForgetRequest.id.in_(request_ids),
                ForgetRequest.status == RequestStatus.PENDING,
                ForgetRequest.limit_waived_at.is_(None),
            )
            .order_by(ForgetRequest.created_at, ForgetRequest.id)
            .with_for_update(key_share=True)
        ).all()
        now, details = database_now(session), {"limit": "max_forgotten_share_per_day", "share": share}
        change_status(session, requests, RequestStatus.NEEDS_REVIEW, reason, now, details)
