"""Forget requests as clients write and read them. What is read never holds a target's ids."""

import datetime as dt
import uuid
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.request_body import RequestBody, StorableText
from app.tables import Event, ForgetRequest
from app.tables.forget_request import RefusalGround, RequestStatus
from app.timestamps import Timestamp
from unlearning.planner import AUTO, GuaranteeAsked
from unlearning.targets import Target

EVERY_MODEL = "*"

MethodName = Annotated[
    str,
    Field(
        pattern=r"^[a-z][a-z0-9_]{0,63}$", description="A method's name, or `auto` for the planner's choice."
    ),
]
Parameters = Annotated[
    dict[str, Any], Field(description="The named method's parameters; empty with `auto`.", max_length=100)
]


class ForgetRequestCreate(RequestBody):
    """A demand that something be forgotten."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": "digits",
                "target": {"kind": "records", "ids": ["17", "23"]},
                "guarantee": "exact",
                "reference": "DSR-2026-118",
            }
        }
    )

    model: str = Field(
        min_length=1,
        max_length=128,
        description="The model that shall forget, or `*` for every model of `dataset`: all of them or none.",
    )
    dataset: uuid.UUID | None = Field(None, description='With `model: "*"` alone: the dataset\'s id.')
    target: Target
    guarantee: GuaranteeAsked = Field("any", description="The weakest guarantee that will do.")
    method: MethodName = AUTO
    parameters: Parameters = Field(default_factory=dict)
    reference: str | None = Field(
        None, min_length=1, max_length=200, description="Your own name for it; no personal data."
    )
    due_at: Timestamp | None = Field(
        None, description="When it must be done; by default one calendar month from now (GDPR Art. 12(3))."
    )
    callback_url: str | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="The address of a registered webhook endpoint (`POST /v1/webhooks`) that shall be told what "
        "becomes of it.",
    )

    @model_validator(mode="after")
    def _dataset_with_every_model_only(self) -> Self:
        if (self.model == EVERY_MODEL) != (self.dataset is not None):
            raise ValueError("'dataset' belongs to 'model': \"*\", which cannot do without it")
        return self


class RetryCreate(RequestBody):
    """Another try; what is left out stays as it was."""

    guarantee: GuaranteeAsked | None = Field(None, description="The weakest guarantee that will do now.")
    method: MethodName | None = None
    parameters: Parameters | None = Field(
        None, description="Of the method; another method starts from its own defaults."
    )
    waive_limit: bool = Field(
        False,
        description="Let it pass the daily limit of its model, in an event of its own; takes the scope `models:write`.",
    )


class ReviewCreate(RequestBody):
    """What a person decided about a candidate whose audit did not pass."""

    decision: Literal["accept"] = Field(description="Publish the candidate in spite of its audit.")
    reason: str = Field(
        min_length=1,
        max_length=1000,
        pattern=r"\S",
        description="Why, without personal data; it is kept with the request for good.",
    )


class ExtendCreate(RequestBody):
    """Why an answer takes longer than was promised."""

    reason: str = Field(
        min_length=1,
        max_length=1000,
        pattern=r"\S",
        description="Why, without personal data: the person concerned has to be told within the first month.",
    )


class RefuseCreate(RequestBody):
    """Why a demand is not met."""

    ground: RefusalGround = Field(
        description="The case of the GDPR it falls under: Art. 12(5) `unfounded`, `excessive`; Art. 12(6) "
        "`identity_not_proven`; the others but `other` Art. 17(3)."
    )
    reason: str = Field(
        min_length=1,
        max_length=1000,
        pattern=r"\S",
        description="Why, in a sentence without personal data; it is kept with the request for good.",
    )


class TargetRead(BaseModel):
    """What is to be forgotten, without naming it."""

    kind: str = Field(description="What the target names.")
    count: int = Field(description="How many it names.")


class ForgetRequestRead(BaseModel):
    """A forget request as it stands."""

    id: uuid.UUID
    model: str = Field(description="The model that shall forget.")
    target: TargetRead
    guarantee: str = Field(description="The weakest guarantee that will do.")
    method: str = Field(description="The method asked for, or `auto`.")
    parameters: dict[str, Any] = Field(description="The named method's parameters, defaults filled in.")
    reference: str | None = Field(description="The client's own name for it.")
    status: RequestStatus
    reason: str | None = Field(description="Why it stands where it stands.")
    due_at: dt.datetime = Field(description="When it must be done.")
    extended_at: dt.datetime | None = Field(description="When that time was put off, which can happen once.")
    overdue: bool = Field(description="Whether that time is over while it is still open.")
    refusal_ground: RefusalGround | None = Field(description="Where it was refused: the case it falls under.")
    job: uuid.UUID | None = Field(description="The job that serves or last served it.")
    version: int | None = Field(description="The first version that has it forgotten.")
    attempts: int = Field(description="Runs that died with their worker since it was last submitted.")
    cancel_requested_at: dt.datetime | None
    created_at: dt.datetime
    updated_at: dt.datetime
    completed_at: dt.datetime | None

    @classmethod
    def of(cls, request: ForgetRequest, model: str, now: dt.datetime) -> Self:
        """Show a row of the table."""
        return cls(
            id=request.id,
            model=model,
            target=TargetRead(kind=request.target_kind, count=request.target_count),
            guarantee=request.guarantee,
            method=request.method,
            parameters=request.parameters,
            reference=request.reference,
            status=request.status,
            reason=request.reason,
            due_at=request.due_at,
            extended_at=request.extended_at,
            refusal_ground=request.refusal_ground,
            overdue=request.due_at < now and request.status in OPEN,
            job=request.job_id,
            version=request.version,
            attempts=request.attempts,
            cancel_requested_at=request.cancel_requested_at,
            created_at=request.created_at,
            updated_at=request.updated_at,
            completed_at=request.completed_at,
        )


OPEN = frozenset(
    {RequestStatus.PENDING, RequestStatus.RUNNING, RequestStatus.NEEDS_REVIEW, RequestStatus.FAILED}
)
"""States in which the client has not got what it asked for, nor a decision: here a due date can be missed."""


@dataclass(frozen=True)
class Filters:
    """What a list of requests is narrowed down by; what is left out does not narrow it."""

    status: Annotated[
        list[RequestStatus], Query(default_factory=list, description="Repeat it for several states.")
    ]
    model: Annotated[StorableText | None, Query(max_length=128, description="The model's name.")] = None
    method: Annotated[
        StorableText | None, Query(max_length=64, description="The method asked for, or `auto`.")
    ] = None
    created_after: Annotated[Timestamp | None, Query(description="Submitted then or later.")] = None
    created_before: Annotated[Timestamp | None, Query(description="Submitted earlier.")] = None
    due_after: Annotated[Timestamp | None, Query(description="Due then or later.")] = None
    due_before: Annotated[Timestamp | None, Query(description="Due earlier.")] = None
    overdue: Annotated[
        bool | None, Query(description="Only those that are, or are not, open beyond their due date.")
    ] = None


class ForgetRequestList(BaseModel):
    """The requests that one call made."""

    items: list[ForgetRequestRead]


class ForgetRequestPage(BaseModel):
    """One page of requests, newest first."""

    items: list[ForgetRequestRead]
    next: str | None = Field(description="Path of the next page, also in the `Link` header; null at the end.")


class EventRead(BaseModel):
    """Something that happened to a request, or to a job that served it."""

    id: int = Field(description="Grows from event to event; what `Last-Event-ID` and `after` take.")
    type: str = Field(
        description="`status`: a change of state. `cancel_requested`, `extended`, `review`: what a client did. "
        "`progress`, `rung`: what a job reports. `erased`: its target's ids are gone. `destroyed`: its model's "
        "predecessor is."
    )
    status: str | None = Field(description="The state that was reached.")
    reason: str = Field(description="What happened, in a sentence.")
    details: dict[str, Any] | None
    job: uuid.UUID | None = Field(
        description="The job it happened to; null where it happened to the request."
    )
    created_at: dt.datetime

    @classmethod
    def of(cls, event: Event) -> Self:
        """Show a row of the table."""
        return cls(
            id=event.id,
            type=event.type,
            status=event.status,
            reason=event.reason,
            details=event.details,
            job=event.job_id,
            created_at=event.created_at,
        )


class EventPage(BaseModel):
    """Events in the order in which they happened."""

    items: list[EventRead]
    next: str | None = Field(description="Path of the next page, also in the `Link` header; null at the end.")
