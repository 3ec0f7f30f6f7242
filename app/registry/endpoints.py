"""`/v1/models`: models, their versions, and the files of these."""

import uuid
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.responses import RedirectResponse

from app.call import CallDep
from app.errors import problem_responses
from app.intake import process, receive, request_body
from app.paging import CursorDep, Limit, link_next
from app.registry import delivery, registration, repository, service
from app.registry.schemas import (
    MAX_NUMBER,
    ModelCreate,
    ModelList,
    ModelRead,
    VersionCreate,
    VersionList,
    VersionRead,
)
from app.reports.answer import PAGE, VARY, page_response, wants_page
from app.reports.schemas import VersionReport
from app.reports.service import sheet_of_version
from app.trust.certificates.model_signature import BUNDLE_MEDIA_TYPE as SIGNATURE
from app.trust.scopes import Scope
from models.families import get_family

router = APIRouter(prefix="/models", tags=["models"])

LATEST = "latest"
Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$", description="The model's name.")]
VersionRef = Annotated[
    str,
    Path(
        pattern=rf"^({LATEST}|[1-9][0-9]{{0,8}})$",
        description="A number, or `latest`, which redirects to the number that is the latest now.",
    ),
]
Before = Annotated[int | None, Query(ge=1, le=MAX_NUMBER, description="Only numbers below this one.")]
FilePath = Annotated[str, Path(max_length=1024, description="Path of a file, as in the manifest.")]

REDIRECT: dict[int | str, dict[str, Any]] = {
    307: {"description": "`latest` is the version named in `Location` now."},
}
BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}


def _download_responses(*media_types: str) -> dict[int | str, dict[str, Any]]:
    content = dict.fromkeys(media_types, BINARY)
    return {
        200: {"description": "The whole.", "content": content},
        206: {"description": "The range asked for.", "content": content},
        304: {"description": "The client has it already."},
        **REDIRECT,
        **problem_responses(404, 410, 416),
    }


@router.post(
    "",
    summary="Register a model",
    status_code=201,
    response_model=ModelRead,
    responses=problem_responses(400, 409, 413, 415),
    openapi_extra=request_body(ModelCreate),
)
async def create_model(call: CallDep, request: Request) -> Response:
    """Upload a checkpoint, or have the service import it; it becomes version 1 of a new model."""
    async with receive(call, request, ModelCreate, Scope.MODELS_WRITE) as parcel:
        return await process(call, parcel, registration.create_model)


@router.get("", summary="List models")
def list_models(
    call: CallDep,
    request: Request,
    response: Response,
    cursor: CursorDep,
    limit: Limit = 50,
    family: Annotated[str | None, Query(description="Only models of this family.")] = None,
    dataset: Annotated[uuid.UUID | None, Query(description="Only models over this dataset.")] = None,
) -> ModelList:
    """Answer one page of the models that the key is for, newest first."""
    with call.read(Scope.MODELS_READ) as work:
        if family is not None:
            get_family(family)
        page = repository.list_models(
            work.session,
            names=work.caller.models,
            family=family,
            dataset=dataset,
            cursor=cursor,
            limit=limit,
        )
        return ModelList(
            items=[ModelRead.of(model) for model in page.rows],
            next=link_next(request, response, cursor=page.next.encode()) if page.next else None,
        )


@router.get("/{name}", summary="Show a model", responses=problem_responses(404))
def read_model(call: CallDep, name: Name) -> ModelRead:
    """Answer one model."""
    with call.read(Scope.MODELS_READ) as work:
        return ModelRead.of(service.readable_model(work, name))


@router.post(
    "/{name}/versions",
    summary="Register a version trained elsewhere",
    status_code=201,
    response_model=VersionRead,
    responses=problem_responses(400, 404, 409, 413, 415),
    openapi_extra=request_body(VersionCreate),
)
async def create_version(call: CallDep, request: Request, name: Name) -> Response:
    """Upload a checkpoint, or have the service import it; it becomes the model's latest version."""
    async with receive(call, request, VersionCreate, Scope.MODELS_WRITE, model=name) as parcel:
        return await process(call, parcel, partial(registration.create_version, name=name))


@router.get("/{name}/versions", summary="List versions", responses=problem_responses(404))
def list_versions(
    call: CallDep, request: Request, response: Response, name: Name, limit: Limit = 50, before: Before = None
) -> VersionList:
    """Answer one page of a model's versions, newest first."""
    with call.read(Scope.MODELS_READ) as work:
        model = service.readable_model(work, name)
        rows, following = repository.list_versions(work.session, model, before=before, limit=limit)
        return VersionList(
            items=[VersionRead.of(model, row) for row in rows],
            next=link_next(request, response, before=following) if following else None,
        )


@router.get(
    "/{name}/versions/{version}",
    summary="Show a version",
    response_model=VersionRead,
    responses=REDIRECT | problem_responses(404),
)
def read_version(call: CallDep, request: Request, name: Name, version: VersionRef) -> VersionRead | Response:
    """Answer one version's lineage, measurements, digests and state."""
    with call.read(Scope.MODELS_READ) as work:
        model = service.readable_model(work, name)
        if version == LATEST:
            return _to_latest(request, model.latest_version)
        return VersionRead.of(model, repository.get_version(work.session, model, int(version)))


@router.get(
    "/{name}/versions/{version}/audit",
    summary="Show a version's audit",
    response_model=VersionReport,
    responses=PAGE | REDIRECT | problem_responses(404, 501),
)
def read_audit(
    call: CallDep, request: Request, response: Response, name: Name, version: VersionRef
) -> VersionReport | Response:
    """Answer what was asked, what was done, and the measurements that the version was published on.

    As JSON, or as a page for people under `Accept: text/html`.
    """
    with call.read(Scope.MODELS_READ) as work:
        if version == LATEST:
            return _to_latest(request, service.readable_model(work, name).latest_version)
        report = service.audit_of(work, name, int(version))
    if wants_page(request):
        return page_response(call.runtime, sheet_of_version(report))
    response.headers.update(VARY)
    return report


@router.head(
    "/{name}/versions/{version}/manifest",
    summary="Ask about a manifest",
    responses=_download_responses("application/json"),
    response_class=Response,
)
@router.get(
    "/{name}/versions/{version}/manifest",
    summary="Download the manifest",
    responses=_download_responses("application/json"),
    response_class=Response,
)
def download_manifest(call: CallDep, request: Request, name: Name, version: VersionRef) -> Response:
    """Answer every file's path, SHA-256 and size; its own SHA-256 is the version's digest."""
    return _download(call, request, name, version, delivery.manifest)


@router.head(
    "/{name}/versions/{version}/files/{path:path}",
    summary="Ask about a file",
    responses=_download_responses("application/octet-stream", "application/json"),
    response_class=Response,
)
@router.get(
    "/{name}/versions/{version}/files/{path:path}",
    summary="Download a file",
    responses=_download_responses("application/octet-stream", "application/json"),
    response_class=Response,
)
def download_file(
    call: CallDep, request: Request, name: Name, version: VersionRef, path: FilePath
) -> Response:
    """Stream one file of a version."""
    return _download(call, request, name, version, partial(delivery.file, path=path))


@router.head(
    "/{name}/versions/{version}/archive",
    summary="Ask about an archive",
    responses=_download_responses("application/x-tar"),
    response_class=Response,
)
@router.get(
    "/{name}/versions/{version}/archive",
    summary="Download all files as one archive",
    responses=_download_responses("application/x-tar"),
    response_class=Response,
)
def download_archive(call: CallDep, request: Request, name: Name, version: VersionRef) -> Response:
    """Stream a version as an uncompressed tar file; the same version gives the same bytes."""
    return _download(call, request, name, version, delivery.archive)


@router.get(
    "/{name}/versions/{version}/model.sig",
    summary="Download the model's signature",
    response_class=Response,
    responses={200: {"content": {SIGNATURE: {"schema": {"type": "object"}}}}}
    | REDIRECT
    | problem_responses(404, 410),
)
def download_signature(call: CallDep, request: Request, name: Name, version: VersionRef) -> Response:
    """Answer the signature of all files in the OpenSSF model-signing format, a Sigstore bundle under a public key."""
    with call.read(Scope.MODELS_READ) as work:
        if version == LATEST:
            return _to_latest(request, service.readable_model(work, name).latest_version)
        return Response(service.model_signature(work, name, int(version)), media_type=SIGNATURE)


def _download(
    call: CallDep, request: Request, name: str, version: str, describe: delivery.Describe
) -> Response:
    with call.read(Scope.MODELS_READ) as work:
        if version == LATEST:
            return _to_latest(request, service.readable_model(work, name).latest_version)
        found = service.downloadable_version(work, name, int(version))
    return delivery.respond(request, call.runtime.storage, *found, describe)


def _to_latest(request: Request, number: int) -> Response:
    return RedirectResponse(
        request.url.path.replace(f"/versions/{LATEST}", f"/versions/{number}", 1),
        status_code=307,
        headers={"Cache-Control": "no-cache"},
    )
