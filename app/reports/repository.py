"""SQL of reports."""

import uuid
from collections.abc import Sequence

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from app.reports.schemas import MOST_REFERENCES, TargetsAsked
from app.tables import CertificateFrame, ForgetRequest, Version


def targets_asked(session: Session, version: Version) -> tuple[TargetsAsked, ...]:
    """Count the requests that a version serves, and what they name, by the kind of target."""
    rows = session.execute(
        select(ForgetRequest.target_kind, func.count(), func.sum(ForgetRequest.target_count))
        .where(*_served_by(version))
        .group_by(ForgetRequest.target_kind)
        .order_by(ForgetRequest.target_kind)
    )
    return tuple(TargetsAsked(kind=kind, requests=requests, count=count) for kind, requests, count in rows)


def first_request(session: Session, version: Version) -> ForgetRequest | None:
    """Return one of the requests that a version serves: all of them ask for the same method and guarantee."""
    query = select(ForgetRequest).where(*_served_by(version))
    return session.scalars(query.order_by(ForgetRequest.created_at, ForgetRequest.id).limit(1)).one_or_none()


def references(session: Session, version: Version) -> tuple[Sequence[str], int]:
    """Return the first of the clients' own names for the requests that a version serves, and how many there are."""
    named = (*_served_by(version), ForgetRequest.reference.is_not(None))
    found = session.scalars(
        select(ForgetRequest.reference)
        .where(*named)
        .distinct()
        .order_by(ForgetRequest.reference)
        .limit(MOST_REFERENCES)
    )
    count = select(func.count(ForgetRequest.reference.distinct())).where(*named)
    return [name for name in found if name is not None], session.execute(count).scalar_one()


def certificate_frame(session: Session, model_id: uuid.UUID, number: int) -> str | None:
    """Return what a version's certificates have in common, None where it has none."""
    frame = session.get(CertificateFrame, (model_id, number))
    return frame.text if frame is not None else None


def _served_by(version: Version) -> tuple[ColumnElement[bool], ...]:
    # By the job, which has an index; by the version too, as a request of the job may have left it unserved.
    return ForgetRequest.job_id == version.job_id, ForgetRequest.version == version.number
