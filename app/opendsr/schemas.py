"""OpenDSR's documents (specification, sections 5 to 9)."""

import datetime as dt
import uuid
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.opendsr.status import OpenDsrStatus
from app.request_body import RequestBody
from app.timestamps import Timestamp

API_VERSION = "2.0"


class Identity(RequestBody):
    """How the controller knows a person."""

    identity_type: str = Field(min_length=1, max_length=64)
    identity_value: str = Field(min_length=1, max_length=1024)
    identity_format: str = Field(min_length=1, max_length=16)


class OpenDsrRequestCreate(RequestBody):
    """A data subject's request as a controller passes it on."""

    regulation: Literal["gdpr", "ccpa"]
    subject_request_id: uuid.UUID
    subject_request_type: Literal["erasure", "access", "portability"]
    submitted_time: Timestamp
    subject_identities: list[Identity] = Field(default_factory=list, max_length=1000)
    api_version: str | None = Field(None, max_length=16)
    status_callback_urls: list[Annotated[str, Field(min_length=1, max_length=1000)]] = Field(
        default_factory=list, max_length=10
    )
    extensions: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        max_length=100,
        description="Under this service's domain: `model` (or `*` with `dataset`), and optionally `target`, "
        "`guarantee`, `method`, `parameters`, as in a forget request.",
    )


class SignedDocument(BaseModel):
    """What every answer about a request holds."""

    model_config = ConfigDict(extra="forbid")

    controller_id: str = Field(description="The id of the API key that the request came with.")
    subject_request_id: uuid.UUID
    api_version: str = API_VERSION


class Received(SignedDocument):
    """The receipt of a request."""

    expected_completion_time: dt.datetime
    received_time: dt.datetime
    encoded_request: str = Field(description="The request's body in base64. Never log or store it.")


class StatusRead(SignedDocument):
    """How a request stands."""

    expected_completion_time: dt.datetime
    request_status: OpenDsrStatus


class Cancelled(SignedDocument):
    """The receipt of a cancellation."""

    received_time: dt.datetime


class SupportedIdentity(BaseModel):
    """One kind of identity that is understood."""

    identity_type: str
    identity_format: str


class Discovery(BaseModel):
    """What this processor supports."""

    api_version: str = API_VERSION
    supported_identities: list[SupportedIdentity]
    supported_subject_request_types: list[str]
    processor_certificate: str = Field(description="Where the certificate that signs answers can be had.")
