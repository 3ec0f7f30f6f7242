"""From OpenDSR requests to forget requests and back. Nothing here commits."""

import ipaddress
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from pydantic import ValidationError
from sqlalchemy import select

from app.call import KeyRefusedError, ScopeMissingError, Work
from app.errors import ServiceError
from app.forget_requests import service as forget_requests
from app.forget_requests.errors import UnknownIdsError
from app.forget_requests.limits import TooManyOpenRequestsError
from app.forget_requests.repository import model_state
from app.forget_requests.schemas import EVERY_MODEL, ForgetRequestCreate
from app.opendsr.callbacks import expected_completion, served_by
from app.opendsr.schemas import Cancelled, Identity, OpenDsrRequestCreate, Received, StatusRead
from app.opendsr.status import status_of
from app.rate_limit import RateLimitedError
from app.tables import ForgetRequest, Model, OpenDsrRequest, WebhookEndpoint
from app.tables.base import new_id
from app.tables.forget_request import RequestStatus
from app.tables.webhook_endpoint import MessageFormat, Subscription
from app.webhooks.address import check_url
from app.webhooks.repository import find_by_url
from models.errors import ModelsError
from unlearning.errors import UnlearningError

SUBJECT_IDENTITY = "controller_customer_id"
"""The identity type that is a subject's id in the data sets; the only one that the service knows people by."""

TAKEN_FROM_EXTENSION = ("model", "dataset", "target", "guarantee", "method", "parameters")


class OpenDsrRefusedError(ServiceError):
    """The request cannot be served. OpenDSR has one status for all of this, and an error object of its own."""

    status, slug, title = 400, "opendsr-refused", "OpenDSR request refused"

    def __init__(self, detail: str) -> None:
        reasons = [{"domain": "Validation", "reason": self.slug, "message": detail}]
        super().__init__(detail, error={"code": self.status, "message": detail, "errors": reasons})


class OpenDsrNotFoundError(ServiceError):
    """There is no such request, or none that the key may see."""

    status, slug, title = 404, "opendsr-request-not-found", "OpenDSR request not found"

    def __init__(self, request_id: uuid.UUID) -> None:
        detail = f"There is no OpenDSR request {request_id}."
        super().__init__(detail, error={"code": self.status, "message": detail, "errors": []})


def parse(body: bytes) -> OpenDsrRequestCreate:
    """Read a request's body.

    Raises:
        OpenDsrRefusedError: It is malformed; the message never quotes it.
    """
    try:
        return OpenDsrRequestCreate.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"]) or "body"
        raise OpenDsrRefusedError(f"{where}: {first['msg']}.") from None


def submit(work: Work, asked: OpenDsrRequestCreate, domain: str, encoded: str) -> Received:
    """Store the forget requests that an erasure comes to; a repetition is answered like the first time."""
    if asked.subject_request_type != "erasure":
        raise OpenDsrRefusedError(f"Requests of the type {asked.subject_request_type} are not supported.")
    demand = _demand(asked, domain)
    known = work.session.get(OpenDsrRequest, asked.subject_request_id)
    if known is not None:
        _compare(work, known, demand)
        return _received(known, served_by(work.session, known), encoded)
    with _in_their_words():
        endpoints = [_callback_endpoint(work, url) for url in asked.status_callback_urls]
        state = model_state(work.session, demand.model) if demand.dataset is None else None
        forget_requests.submit(replace(work, found=state), demand)
    request = OpenDsrRequest(
        subject_request_id=asked.subject_request_id,
        api_key_id=work.caller.key_id,
        regulation=asked.regulation,
        callback_endpoints=[str(endpoint.id) for endpoint in endpoints],
        submitted_at=asked.submitted_time,
        received_at=work.now,
    )
    stored = [row for row in work.rows if isinstance(row, ForgetRequest)]
    for row in stored:
        row.opendsr_request_id = request.subject_request_id
    work.session.add(request)
    return _received(request, stored, encoded)


def show(work: Work, request_id: uuid.UUID) -> StatusRead:
    """Show how a request stands."""
    request, served = _visible(work, request_id)
    return StatusRead(
        controller_id=str(request.api_key_id),
        subject_request_id=request_id,
        expected_completion_time=expected_completion(served),
        request_status=status_of([one.status for one in served]),
    )


def cancel(work: Work, request_id: uuid.UUID) -> Cancelled:
    """Cancel a request that no worker has begun with."""
    request, served = _visible(work, request_id)
    if any(one.status is not RequestStatus.PENDING for one in served):
        raise OpenDsrRefusedError("Only a pending request can be cancelled.")
    with _in_their_words():
        for one in served:
            forget_requests.cancel(work, one.id)
    return Cancelled(
        controller_id=str(request.api_key_id), subject_request_id=request_id, received_time=work.now
    )


def _demand(asked: OpenDsrRequestCreate, domain: str) -> ForgetRequestCreate:
    """Translate: the extension names the model; the target is the extension's, or the subjects named."""
    extension = asked.extensions.get(domain)
    if extension is None:
        raise OpenDsrRefusedError(f"The extensions must hold an object for {domain} that names a model.")
    if unknown := sorted(set(extension) - set(TAKEN_FROM_EXTENSION)):
        raise OpenDsrRefusedError(f"The extension for {domain} has unknown fields: {', '.join(unknown)}.")
    body: dict[str, Any] = {
        "target": {"kind": "subjects", "ids": _subjects(asked.subject_identities)},
        **extension,
        "reference": str(asked.subject_request_id),
    }
    if "target" in extension and asked.subject_identities:
        raise OpenDsrRefusedError("Give either subject_identities or a target in the extension, not both.")
    try:
        return ForgetRequestCreate.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        raise OpenDsrRefusedError(f"extensions.{domain}.{where}: {first['msg']}.") from None


def _subjects(identities: Sequence[Identity]) -> list[str]:
    for identity in identities:
        if (identity.identity_type, identity.identity_format) != (SUBJECT_IDENTITY, "raw"):
            raise OpenDsrRefusedError(f"Only identities of the type {SUBJECT_IDENTITY}, raw, are supported.")
    return [identity.identity_value for identity in identities]


def _compare(work: Work, known: OpenDsrRequest, demand: ForgetRequestCreate) -> None:
    """Refuse what uses the id of another request; ids that were erased cannot be compared any more."""
    target = demand.target.model_dump(mode="json")
    served = served_by(work.session, known)
    names = set(
        work.session.scalars(select(Model.name).where(Model.id.in_([one.model_id for one in served])))
    )
    same = (
        known.api_key_id == work.caller.key_id
        and (demand.model == EVERY_MODEL or names == {demand.model})
        and all(one.target == target and one.guarantee == demand.guarantee for one in served)
    )
    if not same:
        raise OpenDsrRefusedError(f"The subject_request_id {known.subject_request_id} was used before.")


def _callback_endpoint(work: Work, url: str) -> WebhookEndpoint:
    """Return the endpoint of a callback address, made where it is new."""
    networks = [ipaddress.ip_network(network) for network in work.runtime.settings.webhook_allowed_networks]
    check_url(url, networks)
    endpoint = find_by_url(work.session, url, MessageFormat.OPENDSR)
    if endpoint is None:
        endpoint = WebhookEndpoint(
            id=new_id(),
            api_key_id=work.caller.key_id,
            url=url,
            format=MessageFormat.OPENDSR,
            subscription=Subscription.CALLBACKS,
            secret=b"",
            created_at=work.now,
        )
        work.session.add(endpoint)
        work.session.flush()
    return endpoint


@contextmanager
def _in_their_words() -> Iterator[None]:
    """Turn a refusal of the service's own into OpenDSR's, which must not hold identities."""
    try:
        yield
    except (
        KeyRefusedError,
        ScopeMissingError,
        RateLimitedError,
        TooManyOpenRequestsError,
        OpenDsrRefusedError,
    ):
        raise
    except UnknownIdsError:
        raise OpenDsrRefusedError("The target names what neither the model nor its dataset knows.") from None
    except ServiceError as error:
        raise OpenDsrRefusedError(error.detail) from None
    except (UnlearningError, ModelsError) as error:
        raise OpenDsrRefusedError(str(error)) from None


def _visible(work: Work, request_id: uuid.UUID) -> tuple[OpenDsrRequest, Sequence[ForgetRequest]]:
    request = work.session.get(OpenDsrRequest, request_id)
    served = served_by(work.session, request) if request is not None else []
    if request is None or not served:
        raise OpenDsrNotFoundError(request_id)
    allowed = work.caller.models
    if allowed is not None:
        ids = {one.model_id for one in served}
        names = work.session.scalars(select(Model.name).where(Model.id.in_(ids)))
        if not allowed.issuperset(names):
            raise OpenDsrNotFoundError(request_id)
    return request, served


def _received(request: OpenDsrRequest, served: Sequence[ForgetRequest], encoded: str) -> Received:
    return Received(
        controller_id=str(request.api_key_id),
        subject_request_id=request.subject_request_id,
        expected_completion_time=expected_completion(served),
        received_time=request.received_at,
        encoded_request=encoded,
    )
