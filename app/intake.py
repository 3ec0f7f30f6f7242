"""What comes with a registering POST: described by metadata, with files that were uploaded or imported."""

import hashlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

from anyio import to_thread
from fastapi.concurrency import contextmanager_in_threadpool, run_in_threadpool
from fastapi.exceptions import RequestValidationError
from pydantic import Field, StringConstraints, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from app.call import Call
from app.errors import ServiceError
from app.imports import import_files
from app.request_body import RequestBody
from app.trust.scopes import Scope
from app.uploads import FILES_PART, METADATA_PART, ReceivedFile, Upload, receive_upload

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Delivery(RequestBody):
    """Base of the metadata of every registration that brings files."""

    uri: str | None = Field(
        None,
        min_length=1,
        max_length=2048,
        description="Where the service fetches the files itself: a path or URL under an import root. JSON bodies only.",
    )
    sha256: dict[str, Sha256] = Field(
        default_factory=dict,
        max_length=1000,
        description="Expected SHA-256 of files by path, in hexadecimal; a file that differs is refused.",
    )


DeliveryT = TypeVar("DeliveryT", bound=Delivery)
BodyT = TypeVar("BodyT", bound=RequestBody)


class UnsupportedMediaTypeError(ServiceError):
    """The body is neither an upload nor JSON."""

    status, slug, title = 415, "unsupported-media-type", "Unsupported media type"

    def __init__(self) -> None:
        super().__init__(
            "Send `multipart/form-data` to upload files, or `application/json` with a `uri` to import."
        )


class DigestMismatchError(ServiceError):
    """A file is not the one that its digest announced."""

    status, slug, title = 422, "digest-mismatch", "Digest differs"


@dataclass(frozen=True)
class Parcel(Generic[DeliveryT]):
    """Metadata and files of one call, gone when the call ends."""

    metadata: DeliveryT
    files: tuple[ReceivedFile, ...]
    workspace: Path
    """A directory of this call alone, for whatever is made of the files."""

    @property
    def directory(self) -> Path:
        """Holds the files and nothing else."""
        return _files_directory(self.workspace)

    @property
    def paths(self) -> list[Path]:
        """The files, in the order they came."""
        return [self.directory / file.path for file in self.files]


@asynccontextmanager
async def receive(
    call: Call, request: Request, schema: type[DeliveryT], scope: Scope, *, model: str | None = None
) -> AsyncIterator[Parcel[DeliveryT]]:
    """Check the API key, then take in the body; everything written is deleted when the block ends.

    Raises:
        ServiceError: The key, the body or the files are refused.
        RequestValidationError: The metadata do not fit `schema`.
        CheckpointError: A file has an unusable name.
    """
    await run_in_threadpool(call.authorize, scope, model)
    async with contextmanager_in_threadpool(call.runtime.storage.staging()) as workspace:
        _files_directory(workspace).mkdir()
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type == "multipart/form-data":
            metadata, files = await _receive_upload(call, request, schema, workspace)
        elif media_type == "application/json":
            metadata, files = await _import(call, request, schema, workspace)
        else:
            raise UnsupportedMediaTypeError
        _check_digests(metadata, files)
        yield Parcel(metadata, files, workspace)


async def process(
    call: Call, parcel: Parcel[DeliveryT], effect: Callable[[Call, Parcel[DeliveryT]], Response]
) -> Response:
    """Run the long, blocking rest of a registration among few others, off the event loop."""
    return await to_thread.run_sync(effect, call, parcel, limiter=call.runtime.parsers)


def request_body(schema: type[Delivery], *others: type[RequestBody]) -> dict[str, Any]:
    """Describe both forms of the body, for an endpoint's `openapi_extra=`; `others` may come as JSON in its place."""
    json_form = json_schema_of(schema)
    json_form["required"] = [*json_form.get("required", []), "uri"]
    json_form["properties"]["uri"] = {**json_form["properties"]["uri"]["anyOf"][0], "title": "Uri"}
    metadata = json_schema_of(schema)
    del metadata["properties"]["uri"]
    files = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}
    upload_form = {
        "type": "object",
        "properties": {METADATA_PART: metadata, FILES_PART: files},
        "required": [METADATA_PART, FILES_PART],
        "additionalProperties": False,
    }
    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": upload_form,
                    "encoding": {METADATA_PART: {"contentType": "application/json"}},
                },
                "application/json": {
                    "schema": {"anyOf": [json_form, *map(json_schema_of, others)]} if others else json_form
                },
            },
        }
    }


def json_schema_of(schema: type[RequestBody]) -> dict[str, Any]:
    """Return a body's schema; what it refers to stands in the document already, for some other endpoint's sake."""
    described = schema.model_json_schema(ref_template="#/components/schemas/{model}")
    described.pop("$defs", None)
    return described


def _files_directory(workspace: Path) -> Path:
    return workspace / "files"


async def _receive_upload(
    call: Call, request: Request, schema: type[DeliveryT], workspace: Path
) -> tuple[DeliveryT, tuple[ReceivedFile, ...]]:
    upload = await receive_upload(request, _files_directory(workspace))
    metadata = parse_metadata(schema, upload.metadata)
    if metadata.uri is not None:
        raise _invalid("uri", "an upload brings its files itself; send JSON alone to import from a URI")
    call.cover(_fingerprint(upload))
    return metadata, upload.files


async def _import(
    call: Call, request: Request, schema: type[DeliveryT], workspace: Path
) -> tuple[DeliveryT, tuple[ReceivedFile, ...]]:
    metadata = parse_metadata(schema, await request.body())
    if metadata.uri is None:
        raise _invalid("uri", "a JSON body must say where to import from; to upload files, send multipart")
    files = await to_thread.run_sync(
        import_files,
        call.runtime.settings,
        metadata.uri,
        _files_directory(workspace),
        limiter=call.runtime.parsers,
    )
    return metadata, files


def parse_metadata(schema: type[BodyT], body: bytes) -> BodyT:
    """Read a JSON body that FastAPI does not read, and refuse it as FastAPI would.

    Raises:
        RequestValidationError: It is no JSON, or does not fit `schema`.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise RequestValidationError(
            [{"type": "json_invalid", "loc": ("body",), "msg": "JSON decode error"}]
        ) from None
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError(
            [{**fault, "loc": ("body", *fault["loc"])} for fault in faults]
        ) from None


def _invalid(field: str, message: str) -> RequestValidationError:
    return RequestValidationError([{"type": "value_error", "loc": ("body", field), "msg": message}])


def _fingerprint(upload: Upload) -> bytes:
    """Return what makes two uploads the same: metadata, names and digests, whatever the boundary between them."""
    described = [(file.path, file.sha256) for file in upload.files]
    return hashlib.sha256(upload.metadata).digest() + json.dumps(described).encode()


def _check_digests(metadata: Delivery, files: tuple[ReceivedFile, ...]) -> None:
    received = {file.path: file.sha256 for file in files}
    for path, expected in metadata.sha256.items():
        if path not in received:
            raise DigestMismatchError(f"A digest is given for {path[:100]!r}, but there is no such file.")
        if received[path] != expected:
            raise DigestMismatchError(
                f"{path!r} has the SHA-256 {received[path]}, not {expected}: it was changed or damaged on its way."
            )
