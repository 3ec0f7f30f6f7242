"""What a report says. The page is drawn from these values alone, by a process that knows nothing else."""

import datetime as dt
import uuid
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from unlearning.audits.report import Audit, Outcome

MOST_REFERENCES = 100
"""Clients' own names for requests that a report lists; one version may serve 10,000 requests."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TargetsAsked(_Part):
    """The requests that ask for one kind of target."""

    kind: str
    requests: int
    count: int = Field(description="How many ids or pairs they name, all together.")


class Asked(_Part):
    """What clients demanded; never which ids."""

    requests: int = Field(description="Forget requests that the version serves.")
    targets: tuple[TargetsAsked, ...]
    guarantee: str = Field(description="Guarantee that they ask for.")
    method: str = Field(description="Method that they ask for; auto: the service chooses.")
    parameters: dict[str, Any]
    references: tuple[str, ...] = Field(
        description=f"Clients' own names for their requests, at most {MOST_REFERENCES}."
    )
    further_references: int = Field(description="How many more there are.")


class Made(_Part):
    """How a version was made."""

    method: str
    guarantee: str = Field(description="What the method gives: exact, certified or empirical.")
    configuration: dict[str, Any] = Field(description="The method's configuration, defaults filled in.")
    seed: int | None = Field(description="What the method's randomness started from.")
    started_at: dt.datetime | None
    finished_at: dt.datetime | None


class Gauge(_Part):
    """The one figure of a group of checks that a rung is compared by: the first that decides."""

    name: str = Field(description="The check.")
    value: float | None = Field(description="Null where it could not be measured.")
    limits: tuple[float | None, float | None] | None = Field(
        None, description="Within which it is accepted; null where that side is free."
    )
    reference: float | None = None
    original: float | None = Field(None, description="The same of the version that had forgotten nothing.")
    outcome: Outcome


class Tried(_Part):
    """One method of the ladder, as it came out."""

    method: str
    guarantee: str
    verdict: Outcome | None = Field(description="Null where it left nothing to judge.")
    utility: Gauge | None = Field(description="How useful the result is; null where nothing was measured.")
    forget_quality: Gauge | None = Field(
        description="How like a model that never learned the forgotten; null where the method needs no measurement."
    )
    seconds: float = Field(description="Wall time of the method and its audit.")
    failure: str | None = Field(description="Why it left nothing to judge.")
    chosen: bool = Field(description="Whether the version is its result.")


class Acceptance(_Part):
    """Why a version was published whose audit did not pass, as its certificates say too."""

    by: Literal["person", "policy"]
    reviewer: str | None = Field(description="Who accepted it; null for the policy.")
    reason: str


class VersionReport(Audit):
    """The audit that a version was published on, with what was asked for, what was done, and what else was tried."""

    model: str
    version: int
    parent: int | None = Field(description="The version it was made from.")
    asked: Asked | None = Field(description="Null where no forget request led to it.")
    made: Made
    ladder: tuple[Tried, ...] = Field(
        description="Every method that was tried, in order, by its deciding figures."
    )
    policy: dict[str, Any] | None = Field(
        description="The audit policy that applied; null for a version of a time without one."
    )
    acceptance: Acceptance | None = Field(description="Null where the audit passed.")
    rungs: list[dict[str, Any]] = Field(
        description="Every method that was tried, in order, each with its own audit or the reason of its failure."
    )
    skipped: list[dict[str, Any]] = Field(
        description="Methods that the policy did not let begin, each with the reason."
    )


class Independent(_Part):
    """An audit without unlearning: what was to be judged, and where it stands."""

    id: uuid.UUID
    original: int
    candidate: int | None = Field(description="Null for an uploaded checkpoint.")
    checkpoint: str | None = Field(description="SHA-256 of the uploaded checkpoint's manifest.")
    target_kind: str
    target_count: int
    reference: str | None
    status: str
    reason: str | None
    created_at: dt.datetime
    finished_at: dt.datetime | None


class Skipped(_Part):
    """A method that the policy did not let begin."""

    method: str
    reason: str


class Sheet(_Part):
    """Everything that one page shows."""

    model: str
    version: int | None = None
    parent: int | None = None
    independent: Independent | None = None
    asked: Asked | None = None
    made: Made | None = None
    ladder: tuple[Tried, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    policy: dict[str, Any] | None = None
    acceptance: Acceptance | None = None
    audit: Audit | None
    build: str = Field(description="Version of the service.")
