"""`/healthz`, `/readyz` and `/metrics`: for the machines that run the service, so without API keys."""

from typing import Literal

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import Response

from app.errors import ServiceError, problem_responses
from app.runtime import Runtime
from app.schema import SchemaError, require_current_schema

router = APIRouter(tags=["health"])


class NotReadyError(ServiceError):
    """Something the service needs is missing."""

    status, slug, title = 503, "not-ready", "Not ready"


class Health(BaseModel):
    """A good answer."""

    status: Literal["ok"] = Field("ok", description="Always `ok`; a bad answer is a problem document.")


@router.get("/healthz", summary="The process lives")
def healthz() -> Health:
    """Answer as long as the process can."""
    return Health()


@router.get("/readyz", summary="The service can serve", responses=problem_responses(503))
def readyz(request: Request) -> Health:
    """Check the database, its schema and the storage."""
    runtime: Runtime = request.app.state.runtime
    try:
        require_current_schema(runtime.database)
    except SQLAlchemyError as error:
        raise NotReadyError(f"The database does not answer ({type(error).__name__}).") from error
    except SchemaError as error:
        raise NotReadyError(str(error)) from error
    try:
        runtime.storage.check()
    except OSError as error:
        raise NotReadyError(f"The storage cannot be used ({error}).") from error
    return Health()


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}},
)
def metrics(request: Request) -> Response:
    """Answer in Prometheus' text format: this process's own counters, and what the database tells of the backlog."""
    return Response(generate_latest(request.app.state.registry), media_type=CONTENT_TYPE_LATEST)
