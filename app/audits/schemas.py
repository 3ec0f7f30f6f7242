"""Audits as clients ask for and read them."""

import datetime as dt
import uuid
from dataclasses import dataclass
from typing import Annotated, Any, Self

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from app.intake import Delivery
from app.registry.schemas import MAX_NUMBER
from app.request_body import RequestBody, StorableText
from app.tables import AuditRun, Job
from app.tables.job import JobState
from unlearning.audits.report import Audit, Outcome
from unlearning.targets import Target

Number = Annotated[int, Field(ge=1, le=MAX_NUMBER)]
ModelName = Annotated[str, Field(min_length=1, max_length=128, description="Name of the model.")]
Original = Annotated[
    Number,
    Field(description="Version that had learned the target; the audit measures on the snapshot it learned."),
]
Reference = Annotated[
    str | None, Field(max_length=200, description="Your own name for the audit; no personal data.")
]


class AuditCreate(RequestBody):
    """Judge one version of a model against another, for what it is said to have forgotten."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": "digits",
                "original": 1,
                "candidate": 2,
                "target": {"kind": "records", "ids": ["17", "23"]},
            }
        }
    )

    model: ModelName
    original: Original
    candidate: Number = Field(description="Version that is judged.")
    target: Target
    reference: Reference = None


class AuditUpload(Delivery):
    """Judge a checkpoint that comes with the call. It is never published, and deleted once it was judged."""

    model: ModelName
    original: Original
    target: Target
    reference: Reference = None


class AuditTarget(BaseModel):
    """What is said to be forgotten; its ids are not shown, and erased once the audit has ended."""

    kind: str
    count: int = Field(description="How many ids or pairs it names.")


class AuditSummary(BaseModel):
    """An audit without its measurements."""

    id: uuid.UUID
    model: str
    original: int = Field(description="Version that had learned the target.")
    candidate: int | None = Field(description="Version that is judged; null for an uploaded checkpoint.")
    checkpoint: str | None = Field(
        description="SHA-256 of the uploaded checkpoint's manifest, in hexadecimal; null for a version."
    )
    target: AuditTarget
    reference: str | None
    status: JobState = Field(description="State of its job.")
    reason: str | None = Field(description="Why it stands where it stands.")
    verdict: Outcome | None = Field(description="Null until it has been judged.")
    job: uuid.UUID
    created_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None

    @classmethod
    def of(cls, run: AuditRun, job: Job, model: str, **more: Any) -> Self:
        """Show a row of the table, with its job."""
        return cls(
            id=run.id,
            model=model,
            original=run.parent_version,
            candidate=run.candidate_version,
            checkpoint=run.digest,
            target=AuditTarget(kind=run.target_kind, count=run.target_count),
            reference=run.reference,
            status=job.state,
            reason=job.reason,
            verdict=Outcome(run.verdict) if run.verdict is not None else None,
            job=job.id,
            created_at=run.created_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
            **more,
        )


class AuditRead(AuditSummary):
    """An audit with everything that was measured."""

    policy: dict[str, Any] | None = Field(description="The policy that it keeps to; null until it begins.")
    progress: dict[str, Any] | None = Field(description="Stage, step, of how many, seconds left.")
    audit: Audit | None = Field(
        description="Checks with references and bounds, distributions, and the references; null until it was judged."
    )

    @classmethod
    def of(cls, run: AuditRun, job: Job, model: str, **more: Any) -> Self:
        """Show a row of the table, with its job."""
        measured = Audit.model_validate(run.result) if run.result is not None else None
        return super().of(run, job, model, policy=job.policy, progress=job.progress, audit=measured, **more)


@dataclass(frozen=True)
class Filters:
    """What a list of audits is narrowed down by; what is left out does not narrow it."""

    model: Annotated[StorableText | None, Query(max_length=128, description="The model's name.")] = None
    verdict: Annotated[Outcome | None, Query(description="Only audits with this verdict.")] = None


class AuditPage(BaseModel):
    """One page of audits, newest first."""

    items: list[AuditSummary]
    next: str | None = Field(description="Path of the next page, also in the `Link` header; null at the end.")
