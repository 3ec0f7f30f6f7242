"""One base error, one RFC 9457 handler: every refusal is `application/problem+json` with a stable type."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse

from app.logs import bound_values

PROBLEM_MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:expunge:problem:"


class ServiceError(Exception):
    """A refusal. Subclasses set `status`, `slug` and `title`, and build `detail` from domain objects.

    Args:
        detail: One sentence a person can act on.
        members: Further members of the problem document (RFC 9457, section 3.2).
    """

    status: ClassVar[int]
    slug: ClassVar[str]
    title: ClassVar[str]

    def __init__(self, detail: str, **members: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.members = members
        self.headers: dict[str, str] = {}


class Problem(BaseModel):
    """A problem document (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="Stable URN of the kind of problem.")
    title: str = Field(description="The kind of problem in a few words; the same for every occurrence.")
    status: int = Field(description="HTTP status code.")
    detail: str = Field(description="What is wrong with this call, and what to do about it.")
    request_id: str = Field(description="The call's `X-Request-ID`, by which the service's log finds it.")


def problem_response(
    status: int,
    slug: str,
    title: str,
    detail: str,
    *,
    members: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Build the response of one problem."""
    body = {"type": TYPE_PREFIX + slug, "title": title, "status": status, "detail": detail, **(members or {})}
    if (request_id := bound_values().get("request_id")) is not None:
        body["request_id"] = request_id
    return JSONResponse(body, status_code=status, headers=dict(headers or {}), media_type=PROBLEM_MEDIA_TYPE)


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Declare problem documents under these statuses, for an endpoint's `responses=`."""
    content = {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": PROBLEM_TITLES[status], "content": content} for status in statuses}


PROBLEM_TITLES = {
    400: "The call could not be read.",
    401: "No valid API key was given.",
    403: "The API key does not allow this, or the version is quarantined.",
    404: "There is no such resource.",
    405: "The resource does not know this method.",
    409: "The resource's state does not allow this.",
    410: "The resource was destroyed.",
    411: "The length of the body must be known.",
    413: "The body is too large.",
    415: "The body has an unsupported media type.",
    416: "The requested range lies outside the file.",
    422: "The call was understood and refused.",
    429: "Too many requests under this API key, or for this model.",
    500: "The service failed; nothing was changed.",
    501: "This installation lacks what the call needs.",
    503: "The service is not ready.",
}
