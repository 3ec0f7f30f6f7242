"""Jobs as clients read them."""

import datetime as dt
import uuid
from dataclasses import dataclass
from typing import Annotated, Any, Self

from fastapi import Query
from pydantic import BaseModel, Field

from app.request_body import StorableText
from app.tables import Job
from app.tables.job import JobKind, JobState


class JobRead(BaseModel):
    """One run of a worker for one model."""

    id: uuid.UUID
    model: str = Field(description="The model it works on.")
    kind: JobKind = Field(
        description=(
            "`unlearn` serves forget requests; `update` learns the dataset's head; `audit` judges a version or a "
            "checkpoint; `reference` trains models for audits to compare with."
        )
    )
    state: JobState
    reason: str | None = Field(description="Why it ended as it did.")
    parent_version: int | None = Field(description="The version it works from.")
    produced_version: int | None = Field(description="The version it published.")
    plan: dict[str, Any] | None = Field(
        description="The methods in the order in which they are tried, and why."
    )
    policy: dict[str, Any] | None = Field(description="The audit policy that applied at its last claim.")
    progress: dict[str, Any] | None = Field(description="Stage, step, of how many, seconds left.")
    rungs: list[dict[str, Any]] = Field(
        description="What was tried, in order, each with its audit or failure."
    )
    skipped: list[dict[str, Any]] = Field(
        description="Methods of the plan that the policy did not let begin, each with the reason."
    )
    has_candidate: bool = Field(description="Whether a result is kept for a person to accept.")
    seed: int | None = Field(description="What the methods' randomness started from.")
    attempts: int = Field(description="Times it was begun; jobs that unlearn are begun once.")
    traceback_digest: str | None = Field(description="Finds the failure's traceback in the worker's log.")
    created_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None

    @classmethod
    def of(cls, job: Job, model: str) -> Self:
        """Show a row of the table. Where a candidate's files are is nobody's business."""
        outcome = job.outcome or {}
        return cls(
            id=job.id,
            model=model,
            kind=job.kind,
            state=job.state,
            reason=job.reason,
            parent_version=job.parent_version,
            produced_version=job.produced_version,
            plan=job.plan,
            policy=job.policy,
            progress=job.progress,
            rungs=outcome.get("rungs", []),
            skipped=outcome.get("skipped", []),
            has_candidate=outcome.get("candidate") is not None,
            seed=job.seed,
            attempts=job.attempts,
            traceback_digest=job.traceback_digest,
            created_at=job.created_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
        )


@dataclass(frozen=True)
class Filters:
    """What a list of jobs is narrowed down by; what is left out does not narrow it."""

    state: Annotated[list[JobState], Query(default_factory=list, description="Repeat it for several states.")]
    model: Annotated[StorableText | None, Query(max_length=128, description="The model's name.")] = None
    kind: Annotated[JobKind | None, Query(description="Only jobs of this kind.")] = None


class JobPage(BaseModel):
    """One page of jobs, newest first."""

    items: list[JobRead]
    next: str | None = Field(description="Path of the next page, also in the `Link` header; null at the end.")
