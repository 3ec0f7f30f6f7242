"""The rows of trained references: which a job may use, and what becomes of them. Torch-free."""

import datetime as dt
import hashlib
import hmac
import uuid
from collections.abc import Collection, Iterable

from sqlalchemy import exists, select, update
from sqlalchemy.orm import Session

from app.datasets.suppression import count_suppressed
from app.retention.locations import claim_location
from app.tables import Dataset, Job, Model, TrainedReference, Version
from app.tables.trained_reference import ReferencePurpose
from app.tables.version import VersionState
from app.worker.task import KnownReference, ReferenceStaged
from unlearning.audits.references import FIRST_SHADOW_SEED

MOST_KNOWN = 5000
"""References that one job is told of; the newest ones, as those are most likely to be asked for again."""


def reference_root(dataset_id: uuid.UUID) -> str:
    """Return the location below which a dataset's references are kept."""
    return f"references/{dataset_id}"


def digest_of_ids(record_ids: Iterable[str]) -> str:
    """Return the SHA-256 of a set of ids, in hexadecimal.

    >>> digest_of_ids(["b", "a"]) == digest_of_ids(["a", "b"]) != digest_of_ids(["ab"])
    True
    """
    digest = hashlib.sha256()
    for name in sorted(record_ids):
        digest.update(f"{len(name.encode())}:{name}".encode())
    return digest.hexdigest()


def commitment_to(dataset: Dataset, ids_digest: str) -> bytes:
    """Return what a reference's row says of the records that it was trained without.

    Keyed, since the ids of forgotten records can be guessed and their digest then compared.
    """
    return hmac.digest(dataset.suppression_key, ids_digest.encode(), "sha256")


def known_references(session: Session, dataset_id: uuid.UUID) -> tuple[KnownReference, ...]:
    """Return the references over a dataset that a job may use."""
    rows = session.scalars(
        select(TrainedReference)
        .where(
            TrainedReference.dataset_id == dataset_id,
            TrainedReference.destroyed_at.is_(None),
            # What is to be destroyed may go at any moment, and no job that begins now shall be in its way.
            TrainedReference.superseded_at.is_(None),
        )
        .order_by(TrainedReference.created_at.desc())
        .limit(MOST_KNOWN)
    )
    return tuple(
        KnownReference(
            id=str(row.id),
            data=row.data_digest,
            recipe=row.recipe_digest,
            seed=row.seed,
            location=row.location,
            digest=row.digest,
            seconds=row.seconds,
        )
        for row in rows
    )


def enter_reference(
    session: Session, job: Job, staged: ReferenceStaged, now: dt.datetime, *, clean_among: int | None
) -> None:
    """Add the row of a reference whose files are in their place.

    Args:
        session: The transaction; it holds the model's lock.
        job: The job that trained it.
        staged: The reference.
        now: The time by the database's clock.
        clean_among: How many forgotten records there were when it was found to have learned none; None if unknown.

    Raises:
        IntegrityError: Another job has trained the same one meanwhile.
    """
    model = session.get_one(Model, job.model_id)
    dataset = session.get_one(Dataset, model.dataset_id)
    version = session.get_one(Version, (model.id, job.parent_version))
    shadow = staged.seed >= FIRST_SHADOW_SEED
    # What a version had learned that is withdrawn by now may hold what was forgotten since: then it shares its fate.
    clean = clean_among is not None and clean_among == count_suppressed(session, dataset)
    superseded = now if version.state is not VersionState.PUBLISHED and not clean else None
    session.add(
        TrainedReference(
            purpose=ReferencePurpose.SHADOW if shadow else ReferencePurpose.RETRAINED,
            model_id=model.id,
            version=version.number,
            dataset_id=dataset.id,
            snapshot=version.snapshot,
            left_out=commitment_to(dataset, staged.left_out) if staged.left_out is not None else None,
            data_digest=staged.data,
            recipe_digest=staged.recipe,
            seed=staged.seed,
            location=staged.location,
            digest=staged.digest,
            size=staged.size,
            seconds=staged.seconds,
            job_id=job.id,
            created_at=now,
            superseded_at=superseded,
        )
    )
    session.flush()
    claim_location(session, staged.location)


def reference_recorded(session: Session, location: str) -> bool:
    """Tell whether a row says that the files at `location` are real."""
    query = select(
        exists().where(TrainedReference.location == location, TrainedReference.destroyed_at.is_(None))
    )
    return session.execute(query).scalar_one()


def destroy_reference(session: Session, reference_id: uuid.UUID, now: dt.datetime) -> str | None:
    """Take a reference out of use; return the location whose files may go once this is committed."""
    row = session.get(TrainedReference, reference_id, with_for_update=True)
    if row is None or row.destroyed_at is not None:
        return None
    row.destroyed_at = now
    return row.location


def supersede_references(
    session: Session, dataset: Dataset, job: Job, forgotten: Collection[str], now: dt.datetime
) -> None:
    """Mark every reference over a dataset that may hold what a job has just forgotten: it is to be destroyed.

    Those that were trained without the very records that were forgotten, for that job or earlier, hold none of them.
    Whether another one does is not known without its data, so it counts as if it did.
    """
    own = select(TrainedReference.left_out).where(
        TrainedReference.job_id == job.id, TrainedReference.left_out.is_not(None)
    )
    same = commitment_to(dataset, digest_of_ids(forgotten))
    left_out = TrainedReference.left_out
    session.execute(
        update(TrainedReference)
        .where(
            TrainedReference.dataset_id == dataset.id,
            TrainedReference.destroyed_at.is_(None),
            TrainedReference.superseded_at.is_(None),
        )
        .where(left_out.is_(None) | (left_out.not_in(own) & (left_out != same)))
        .values(superseded_at=now)
        .execution_options(synchronize_session=False)
    )
