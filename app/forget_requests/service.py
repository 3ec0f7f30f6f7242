"""Decisions about forget requests. Nothing here commits."""

import secrets
import uuid
from collections.abc import Mapping
from typing import Any, cast

from app.call import Answer, ScopeMissingError, Work
from app.forget_requests import repository
from app.forget_requests.errors import (
    AlreadyExtendedError,
    DatasetWithoutModelsError,
    DueTooEarlyError,
    ForgetRequestNotFoundError,
    NotOpenError,
    RetrainingNotAllowedError,
    TargetErasedError,
    UnknownModelError,
)
from app.forget_requests.repository import History, ModelState
from app.forget_requests.schemas import (
    EVERY_MODEL,
    OPEN,
    ExtendCreate,
    Filters,
    ForgetRequestCreate,
    ForgetRequestList,
    ForgetRequestRead,
    RefuseCreate,
    RetryCreate,
    ReviewCreate,
)
from app.forget_requests.states import IllegalChangeError, change_status, status_event
from app.forget_requests.validation import check_target, group_key, settle_parameters
from app.paging import Cursor, Page
from app.policies.effective import effective_policy
from app.tables import Event, ForgetRequest, Job, Model
from app.tables.base import new_id
from app.tables.forget_request import RequestStatus
from app.tables.job import JobState
from app.telemetry.tracing import current_traceparent
from app.timestamps import add_months
from app.trust.scopes import Scope
from app.webhooks.outbox import announce
from app.webhooks.service import callback_endpoint
from app.worker.publication import publish_candidate
from unlearning.planner import GuaranteeAsked
from unlearning.targets import TARGET

MONTHS_TO_ANSWER = 1
"""GDPR Art. 12(3): without undue delay, and in any event within one month of receipt."""

MONTHS_OF_EXTENSION = 2
"""GDPR Art. 12(3): where necessary, taking into account the complexity and number of the requests."""

RETRY_AFTER_SECONDS = 1
COMMITMENT_KEY_BYTES = 32
RETRIABLE = frozenset({RequestStatus.FAILED, RequestStatus.NEEDS_REVIEW})
RECEIVED = "Received and checked; waits for a worker."


def submit(work: Work, body: ForgetRequestCreate) -> Answer:
    """Store one request, or one per model of a dataset: all of them or none.

    The state of the model that the body names has been looked up along with the key.
    """
    if body.due_at is not None and body.due_at <= work.now:
        raise DueTooEarlyError(body.due_at)
    if body.dataset is not None:
        states = _models_of(work, body.dataset)
        requests = [_store(work, body, state) for state in states]
        items = [_shown(work, request, state.name) for request, state in zip(requests, states, strict=True)]
        return Answer(ForgetRequestList(items=items), 202, retry_after=RETRY_AFTER_SECONDS)
    state = _model(work, body.model)
    request = _store(work, body, state)
    return _accepted(work, request, state.name)


def show(work: Work, request_id: uuid.UUID) -> ForgetRequestRead:
    """Show one request that the key may see."""
    request, model = get_visible(work, request_id)
    return _shown(work, request, model)


def list_page(work: Work, filters: Filters, cursor: Cursor | None, limit: int) -> Page[ForgetRequestRead]:
    """List the requests that the key may see, newest first."""
    page = repository.page(work.session, work.caller.models, filters, work.now, cursor, limit)
    names = repository.model_names(work.session, page.rows)
    return Page([_shown(work, request, names[request.model_id]) for request in page.rows], page.next)


def history(work: Work, request_id: uuid.UUID, after: int, limit: int) -> History:
    """Return a part of a request's history."""
    get_visible(work, request_id)
    return repository.history(work.session, request_id, after, limit=limit)


def cancel(work: Work, request_id: uuid.UUID) -> Answer:
    """Cancel at once what does not run, and ask the worker to stop what does."""
    _, model = get_visible(work, request_id)
    request, job = repository.lock(work.session, request_id)
    if request.status is not RequestStatus.RUNNING or job is None:
        change_status(work.session, [request], RequestStatus.CANCELLED, "Cancelled by the client.", work.now)
        return Answer(_shown(work, request, model), 200)
    if request.cancel_requested_at is None:
        _ask_to_stop(work, request, job)
    return _accepted(work, request, model)


def retry(work: Work, request_id: uuid.UUID, body: RetryCreate) -> Answer:
    """Put a request that failed, or that waits for a person, back into the queue."""
    _, model = get_visible(work, request_id)
    request, _ = repository.lock(work.session, request_id)
    if (
        request.status not in RETRIABLE
    ):  # a running request may become pending again, but not by a client's will
        raise IllegalChangeError(request, RequestStatus.PENDING)
    change_status(work.session, [request], RequestStatus.PENDING, "Submitted again by the client.", work.now)
    if request.target is None:
        raise TargetErasedError(request)
    state = repository.model_state_by_id(work.session, request.model_id)
    check_target(work.runtime, state, TARGET.validate_python(request.target))
    same_method = body.method is None or body.method == request.method
    parameters = body.parameters if body.parameters is not None else request.parameters if same_method else {}
    _demand(
        work,
        request,
        state,
        guarantee=body.guarantee or cast("GuaranteeAsked", request.guarantee),
        method=body.method or request.method,
        parameters=parameters,
    )
    if body.waive_limit:
        _waive_limit(work, request, model)
    request.attempts = 0
    request.split = ""
    request.cancel_requested_at = None
    return _accepted(work, request, model)


def review(work: Work, request_id: uuid.UUID, body: ReviewCreate) -> Answer:
    """Publish a candidate that its audit did not pass, because a person answers for it."""
    _, model = get_visible(work, request_id)
    work.caller.require(
        Scope.MODELS_WRITE, model
    )  # a version is published, beyond what the service vouches for
    request, job = repository.lock(work.session, request_id)
    if request.status is not RequestStatus.NEEDS_REVIEW or job is None:
        raise IllegalChangeError(request, RequestStatus.COMPLETED)
    reviewer = _clerk(work)
    work.session.add(
        Event(
            job_id=request.job_id,
            type="review",
            status=request.status.value,
            reason=f"{reviewer} accepted the candidate: {body.reason}",
            details={"decision": body.decision, "reviewer": reviewer, "api_key": str(work.caller.key_id)},
            created_at=work.now,
        )
    )
    publish_candidate(work, request, body.reason, reviewer)
    return Answer(_shown(work, request, model), 200)


def extend(work: Work, request_id: uuid.UUID, body: ExtendCreate) -> Answer:
    """Put an open request's due date off, once."""
    _, model = get_visible(work, request_id)
    request, _ = repository.lock(work.session, request_id)
    if request.status not in OPEN:
        raise NotOpenError(request)
    if request.extended_at is not None:
        raise AlreadyExtendedError(request)
    due_before = request.due_at
    request.due_at = add_months(due_before, MONTHS_OF_EXTENSION)
    request.extended_at = request.updated_at = work.now
    work.session.add(
        Event(
            forget_request_id=request.id,
            type="extended",
            status=request.status.value,
            reason=f"{_clerk(work)} put its due date off by {MONTHS_OF_EXTENSION} months: {body.reason}",
            details={"due_before": due_before.isoformat(), "due_at": request.due_at.isoformat()},
            created_at=work.now,
        )
    )
    announce(work.session, [request], "extended", work.now)
    return Answer(_shown(work, request, model), 200)


def refuse(work: Work, request_id: uuid.UUID, body: RefuseCreate) -> Answer:
    """Refuse a request that nobody is at work on."""
    _, model = get_visible(work, request_id)
    request, _ = repository.lock(work.session, request_id)
    reason = f"{_clerk(work)} refused it ({body.ground.value.replace('_', ' ')}): {body.reason}"
    details = {"ground": body.ground.value, "api_key": str(work.caller.key_id)}
    change_status(work.session, [request], RequestStatus.REFUSED, reason, work.now, details)
    request.refusal_ground = body.ground
    return Answer(_shown(work, request, model), 200)


def get_visible(work: Work, request_id: uuid.UUID) -> tuple[ForgetRequest, str]:
    """Return a request and its model's name.

    Raises:
        ForgetRequestNotFoundError: There is none, or the key is limited to other models.
    """
    found = repository.find(work.session, request_id, work.caller.models)
    if found is None:
        raise ForgetRequestNotFoundError(request_id)
    return found


def _clerk(work: Work) -> str:
    """Name the API key behind the call, for the record of who decided."""
    return repository.key_name(work.session, work.caller.key_id)


def _model(work: Work, name: str) -> ModelState:
    # Asked before looking: a key limited to some models cannot find out which others there are.
    work.caller.require(Scope.REQUESTS_WRITE, name)
    if work.found is None:
        raise UnknownModelError(name)
    return ModelState(*work.found)


def _models_of(work: Work, dataset_id: uuid.UUID) -> list[ModelState]:
    states = repository.model_states_of_dataset(work.session, dataset_id)
    if not states:
        raise DatasetWithoutModelsError(dataset_id)
    allowed = work.caller.models
    if allowed is not None and not allowed.issuperset(state.name for state in states):
        raise ScopeMissingError(Scope.REQUESTS_WRITE, EVERY_MODEL)
    return states


def _store(work: Work, body: ForgetRequestCreate, state: ModelState) -> ForgetRequest:
    work.runtime.open_requests.admit(work.session, work.caller.key_id, state.model_id, state.name)
    check_target(work.runtime, state, body.target)
    request = ForgetRequest(
        id=new_id(),
        model_id=state.model_id,
        api_key_id=work.caller.key_id,
        target=body.target.model_dump(mode="json"),
        commitment_key=secrets.token_bytes(COMMITMENT_KEY_BYTES),
        target_kind=body.target.kind,
        target_count=body.target.count,
        split="",
        attempts=0,
        status=RequestStatus.PENDING,
        reason=RECEIVED,
        reference=body.reference,
        due_at=body.due_at or add_months(work.now, MONTHS_TO_ANSWER),
        webhook_endpoint_id=(
            callback_endpoint(work, body.callback_url, state.name) if body.callback_url is not None else None
        ),
        traceparent=current_traceparent(),
        created_at=work.now,
        updated_at=work.now,
    )
    _demand(
        work,
        request,
        state,
        guarantee=body.guarantee,
        method=body.method,
        parameters=body.parameters,
    )
    work.rows.extend((request, status_event(request, RECEIVED, work.now)))
    return request


def _demand(
    work: Work,
    request: ForgetRequest,
    state: ModelState,
    *,
    guarantee: GuaranteeAsked,
    method: str,
    parameters: Mapping[str, Any],
) -> None:
    """Let a request ask for a method and guarantee that its model can be served by."""
    settled, only_retraining = settle_parameters(
        work.runtime, state, request.target_kind, guarantee=guarantee, method=method, parameters=parameters
    )
    if only_retraining:  # otherwise its worker asks the policy: a submission is measured by its round trips
        model = work.session.get_one(Model, state.model_id)
        if not effective_policy(work.session, work.runtime.settings, model).policy.allow_retrain:
            raise RetrainingNotAllowedError(state.name)
    request.guarantee = guarantee
    request.method = method
    request.parameters = settled
    request.group_key = group_key(guarantee, method, settled)


def _ask_to_stop(work: Work, request: ForgetRequest, job: Job) -> None:
    request.cancel_requested_at = work.now
    request.updated_at = work.now
    if job.state is JobState.RUNNING:
        job.state = JobState.CANCELLING
    work.session.add(
        Event(
            forget_request_id=request.id,
            type="cancel_requested",
            status=request.status.value,
            reason="The client asked for it to be cancelled; the worker is being stopped.",
            created_at=work.now,
        )
    )


def _waive_limit(work: Work, request: ForgetRequest, model: str) -> None:
    """Let a request pass its model's daily limit: by the word of who may write the model, not of who floods it."""
    work.caller.require(Scope.MODELS_WRITE, model)
    request.limit_waived_at = work.now
    work.session.add(
        Event(
            forget_request_id=request.id,
            type="limit_waived",
            status=request.status.value,
            reason=f"{_clerk(work)} let it pass the daily limit of the model.",
            details={"api_key": str(work.caller.key_id)},
            created_at=work.now,
        )
    )


def _accepted(work: Work, request: ForgetRequest, model: str) -> Answer:
    return Answer(
        _shown(work, request, model),
        202,
        location=f"/v1/forget-requests/{request.id}",
        retry_after=RETRY_AFTER_SECONDS,
    )


def _shown(work: Work, request: ForgetRequest, model: str) -> ForgetRequestRead:
    return ForgetRequestRead.of(request, model, work.now)
