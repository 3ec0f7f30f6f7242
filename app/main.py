"""The HTTP service: routers and handlers, nothing else. Imports no torch."""

import importlib.metadata
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from app.audits.endpoints import router as audits
from app.body_limit import BodyLimit
from app.datasets.endpoints import router as datasets
from app.errors import PROBLEM_TITLES, Problem, ServiceError, problem_response, problem_responses
from app.forget_requests.endpoints import router as forget_requests
from app.health.endpoints import router as health
from app.jobs.endpoints import router as jobs
from app.log.endpoints import router as log
from app.methods.endpoints import router as methods
from app.plans.endpoints import router as plans
from app.policies.endpoints import router as policies
from app.references.endpoints import router as references
from app.registry.endpoints import router as registry
from app.retention.endpoints import router as retention
from app.retention.sweeper import sweeping
from app.runtime import Runtime
from app.schema import require_current_schema
from app.settings import Settings, get_settings
from app.telemetry.calls import HEADER, AccessLog, Observed, current_request_id
from app.telemetry.exposition import service_registry
from app.telemetry.tracing import Tracing
from app.webhooks.endpoints import router as webhooks
from models.architectures import architectures
from models.errors import CheckpointError, DatasetError, UnknownArchitectureError, UnknownFamilyError
from unlearning.catalog import methods as installed_methods
from unlearning.errors import ConfigurationError, PlanningError, TargetError, UnknownMethodError

logger = logging.getLogger(__name__)

DOMAIN_PROBLEMS: dict[type[Exception], tuple[str, str]] = {
    CheckpointError: ("invalid-checkpoint", "Checkpoint refused"),
    DatasetError: ("invalid-data", "Data refused"),
    UnknownFamilyError: ("unknown-family", "Unknown family"),
    UnknownArchitectureError: ("unknown-architecture", "Unknown architecture"),
    UnknownMethodError: ("unknown-method", "Unknown method"),
    ConfigurationError: ("invalid-parameters", "Parameters refused"),
    PlanningError: ("no-suitable-method", "No suitable method"),
    TargetError: ("invalid-target", "Target refused"),
}
"""What a refusal by the lower floors is called here; its sentence is passed on as it is."""

DATABASE_AWAY = (OperationalError, InterfaceError, PoolTimeoutError)
"""What a database raises that restarts, is out of reach, or is too busy for one more call just now."""

RETRY_AFTER_SECONDS = 1

HTTP_PROBLEMS = {
    400: "unreadable-body",
    404: "not-found",
    405: "method-not-allowed",
    413: "body-too-large",
}


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the service; the database and storage are opened when it starts.

    Raises:
        PluginError: An installed package offers methods or architectures that cannot be used.
        OpenDsrSettingsError: The OpenDSR façade is switched on, and cannot sign.
        SchemaError: At start, if the database's schema is not the one this code needs.
    """
    settings = settings or get_settings()
    # A broken plug-in stops the service here, with a sentence that names it, and never a request later on.
    installed_methods()
    architectures()
    tracing = Tracing.start(settings, "api")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        runtime = Runtime.open(settings)
        try:
            require_current_schema(runtime.database)
            app.state.runtime = runtime
            app.state.registry = service_registry(runtime)
            with sweeping(runtime, whole=False):
                yield
        finally:
            runtime.close()
            tracing.close()

    app = FastAPI(
        title="Expunge",
        summary="A machine-unlearning service.",
        description="Erasure requests become new, audited, downloadable model versions.",
        version=importlib.metadata.version("expunge"),
        lifespan=lifespan,
        # What it would send holds paths, queries and messages of exceptions; ours is `app.telemetry`.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        responses=problem_responses(500, 503),
    )
    app.add_middleware(
        BodyLimit, max_body_bytes=settings.max_body_bytes, max_upload_bytes=settings.max_upload_bytes
    )
    app.add_middleware(Observed, access_log=AccessLog(settings), tracing=tracing)  # the last is the outermost
    _add_handlers(app)
    shared = problem_responses(401, 403, 422, 429)
    # Routers are tried in this order for every call, so the one that is called most stands first.
    for router in (
        forget_requests,
        jobs,
        registry,
        datasets,
        methods,
        plans,
        policies,
        audits,
        references,
        webhooks,
        log,
        retention,
    ):
        app.include_router(router, prefix="/v1", responses=shared)
    app.include_router(health)
    _add_opendsr(app, settings)
    app.openapi = _openapi(app)  # type: ignore[method-assign]
    return app


def _add_opendsr(app: FastAPI, settings: Settings) -> None:
    if settings.opendsr_domain is None:
        return
    # Reading certificates takes a part of cryptography that nothing else here does.
    from app.opendsr.endpoints import make_router  # noqa: PLC0415
    from app.opendsr.signature import ProcessorSigner  # noqa: PLC0415

    signer = ProcessorSigner.load(settings)
    if signer is not None:
        app.include_router(make_router(signer))


def _add_handlers(app: FastAPI) -> None:
    @app.exception_handler(ServiceError)
    def service_error(_request: Request, error: ServiceError) -> Response:
        return problem_response(
            error.status, error.slug, error.title, error.detail, members=error.members, headers=error.headers
        )

    def domain_error(_request: Request, error: Exception) -> Response:
        slug, title = next(problem for kind, problem in DOMAIN_PROBLEMS.items() if isinstance(error, kind))
        return problem_response(422, slug, title, str(error))

    for kind in DOMAIN_PROBLEMS:
        app.add_exception_handler(kind, domain_error)

    @app.exception_handler(RequestValidationError)
    def invalid_request(_request: Request, error: RequestValidationError) -> Response:
        # The input is left out: it may hold the very ids that are to be forgotten.
        errors = [{"loc": part["loc"], "msg": part["msg"], "type": part["type"]} for part in error.errors()]
        if any(part["type"] == "json_invalid" for part in errors):
            return problem_response(422, "invalid-json", "Not JSON", "The body is not valid JSON.")
        first = errors[0]
        where = ".".join(str(step) for step in first["loc"])
        return problem_response(
            422, "invalid-request", "Request refused", f"{where}: {first['msg']}.", members={"errors": errors}
        )

    @app.exception_handler(HTTPException)
    def http_error(_request: Request, error: HTTPException) -> Response:
        slug = HTTP_PROBLEMS.get(error.status_code, f"http-{error.status_code}")
        title = PROBLEM_TITLES.get(error.status_code, "The call failed.")
        return problem_response(error.status_code, slug, title, str(error.detail), headers=error.headers)

    def database_away(_request: Request, error: Exception) -> Response:
        logger.warning("A call was turned away: the database is away or busy (%s).", type(error).__name__)
        # A lost connection does not say whether the commit came first, so nothing is promised about that.
        return problem_response(
            503,
            "database-away",
            "Database away",
            "The database is away or too busy just now. Try again, under the same Idempotency-Key.",
            headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
        )

    for kind in DATABASE_AWAY:
        app.add_exception_handler(kind, database_away)

    @app.exception_handler(Exception)
    def internal_error(_request: Request, _error: Exception) -> Response:
        # Starlette logs the traceback; the client learns only that nothing was changed.
        # This handler's answer passes no middleware, so it names the call's id itself.
        request_id = current_request_id()
        return problem_response(
            500,
            "internal-error",
            "Internal error",
            "The service failed; nothing was changed. Try again.",
            headers={HEADER.decode(): request_id} if request_id is not None else None,
        )


def _openapi(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """Build the OpenAPI document once, with the problem document among its schemas."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                summary=app.summary,
                description=app.description,
                routes=app.routes,
            )
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas["Problem"] = Problem.model_json_schema()
            app.openapi_schema = document
        return app.openapi_schema

    return openapi
