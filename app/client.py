"""A client of the service for Python programs; the command line is built on it.

    with Client("http://127.0.0.1:8000", "xp_…") as client:
        request = client.forget("digits", {"kind": "records", "ids": ["17", "23"]}, guarantee="exact")
        request = client.wait(request["id"])
        client.download("digits", Path("digits-forgotten"), version=request["version"])

Answers are the JSON objects that the API's OpenAPI document describes. Torch-free.
"""

import io
import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx
from httpx_sse import EventSource, SSEError

from models.checkpoint import Manifest

JsonObject = dict[str, Any]
Progress = Callable[[str, int, int], None]
"""Called as `progress(what, bytes done, bytes of it)`."""

SETTLED = frozenset({"completed", "failed", "needs_review", "cancelled", "refused"})
"""States in which nothing more happens to a request until somebody acts."""

ATTEMPTS = 4
"""Tries of one call that the service was too busy for, or whose connection broke."""
LONGEST_PAUSE_SECONDS = 10.0
STREAM_SILENCE_SECONDS = 60.0
"""An event stream that says nothing for so long, not even a comment, is taken for dead and opened anew."""
UPLOAD_TIMEOUT = httpx.Timeout(60.0, connect=10.0, read=3600.0)
"""What was uploaded or imported is parsed and hashed before it is answered, so the answer may take its time."""
RETRIED_STATUSES = frozenset({429, 503})


class ClientError(Exception):
    """A call did not come to its end; the message is a sentence for people."""


class UnreachableError(ClientError):
    """No answer came from the service."""


class DownloadError(ClientError):
    """What came was not what the service's manifest says."""


class ProblemError(ClientError):
    """The service refused.

    Attributes:
        status: HTTP status code.
        slug: The stable end of the problem's type, such as `unknown-ids`; empty where no problem document came.
        problem: The whole problem document.
    """

    def __init__(self, status: int, problem: JsonObject) -> None:
        self.status = status
        self.problem = problem
        self.slug = str(problem.get("type", "")).rpartition(":")[2]
        detail = problem.get("detail") or problem.get("title") or "The service gave no reason."
        super().__init__(f"{detail} ({status}{f' {self.slug}' if self.slug else ''})")


@dataclass(frozen=True)
class Event:
    """Something that happened to a forget request or to the job that serves it."""

    id: int
    type: str
    status: str | None
    reason: str
    details: JsonObject | None
    body: JsonObject = field(repr=False)
    """The whole event, as JSON."""

    @classmethod
    def from_json(cls, body: JsonObject) -> Self:
        """Read one event of the API."""
        return cls(body["id"], body["type"], body["status"], body["reason"], body["details"], body)


class Client:
    """Calls one service under one API key. Safe to share between threads.

    Every POST carries an `Idempotency-Key`, so one whose answer was lost can be repeated without harm; calls
    that the service is too busy for are repeated after the pause it asks for.

    Args:
        url: Where the service is, such as `http://127.0.0.1:8000`.
        api_key: The key's secret.
        timeout: Seconds to wait for the service to begin to answer.
    """

    def __init__(self, url: str, api_key: str, *, timeout: float = 60.0) -> None:
        self._url = url
        try:
            self._http = httpx.Client(
                base_url=url,
                headers={"Authorization": f"Bearer {api_key}"},
                timeout=httpx.Timeout(timeout, connect=10.0),
                follow_redirects=True,
            )
        except (httpx.InvalidURL, UnicodeEncodeError, ValueError) as error:
            raise ClientError(f"The URL or the API key cannot be used: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._http.close()

    def methods(self, family: str | None = None) -> list[JsonObject]:
        """Return the installed methods, or one family's."""
        parameters = {"family": family} if family is not None else {}
        return list(self.get("/v1/methods", **parameters)["items"])

    def plan(
        self,
        model: str,
        target: Mapping[str, Any],
        *,
        guarantee: str = "any",
        method: str = "auto",
        parameters: Mapping[str, Any] | None = None,
    ) -> JsonObject:
        """Ask which methods a forget request would try, without making one."""
        body = {"model": model, "target": target, "guarantee": guarantee, "method": method}
        return self.post("/v1/plans", {**body, "parameters": dict(parameters or {})})

    def register_dataset(
        self,
        name: str,
        family: str,
        files: Sequence[Path] = (),
        *,
        uri: str | None = None,
        progress: Progress | None = None,
    ) -> JsonObject:
        """Upload data files as a new dataset, or have the service import them from `uri`."""
        metadata = {"name": name, "family": family}
        return self._deliver("/v1/datasets", metadata, _data_parts(files), uri, progress)

    def add_snapshot(
        self,
        dataset: str,
        files: Sequence[Path] = (),
        *,
        mode: str = "append",
        uri: str | None = None,
        progress: Progress | None = None,
    ) -> JsonObject:
        """Upload or import a dataset's next snapshot: records added (`append`) or all of them (`replace`)."""
        path = f"/v1/datasets/{_segment(dataset)}/snapshots"
        return self._deliver(path, {"mode": mode}, _data_parts(files), uri, progress)

    def register_model(
        self,
        name: str,
        family: str,
        dataset: str,
        checkpoint: Path | None = None,
        *,
        uri: str | None = None,
        progress: Progress | None = None,
    ) -> JsonObject:
        """Upload or import a checkpoint directory as version 1 of a new model over a dataset, given by its id."""
        metadata = {"name": name, "family": family, "dataset": dataset}
        parts = _checkpoint_parts(checkpoint) if checkpoint is not None else {}
        return self._deliver("/v1/models", metadata, parts, uri, progress)

    def add_version(
        self,
        model: str,
        checkpoint: Path | None = None,
        *,
        uri: str | None = None,
        progress: Progress | None = None,
    ) -> JsonObject:
        """Upload or import a checkpoint that was trained elsewhere as the model's next version."""
        parts = _checkpoint_parts(checkpoint) if checkpoint is not None else {}
        return self._deliver(f"/v1/models/{_segment(model)}/versions", {}, parts, uri, progress)

    def datasets(self) -> list[JsonObject]:
        """Return every dataset."""
        return self._every("/v1/datasets")

    def models(self) -> list[JsonObject]:
        """Return every model that the key may see."""
        return self._every("/v1/models")

    def model(self, name: str) -> JsonObject:
        """Return one model."""
        return self.get(f"/v1/models/{_segment(name)}")

    def versions(self, model: str) -> list[JsonObject]:
        """Return every version of a model, newest first."""
        return self._every(f"/v1/models/{_segment(model)}/versions")

    def version(self, model: str, version: int | str = "latest") -> JsonObject:
        """Return one version of a model."""
        return self.get(_version_path(model, version))

    def audit(self, model: str, version: int | str) -> JsonObject:
        """Return the audit of an unlearned version."""
        return self.get(f"{_version_path(model, version)}/audit")

    def update(self, model: str) -> JsonObject:
        """Ask for a new version that has learned its dataset's newest snapshot; the answer is a job."""
        return self.post(f"/v1/models/{_segment(model)}/updates", {})

    def forget(
        self,
        model: str,
        target: Mapping[str, Any],
        *,
        guarantee: str = "any",
        method: str = "auto",
        parameters: Mapping[str, Any] | None = None,
        reference: str | None = None,
        due_at: str | None = None,
        dataset: str | None = None,
        idempotency_key: str | None = None,
    ) -> JsonObject:
        """Demand that a target be forgotten; the answer is the stored request, or a list of them for `*`."""
        body = {
            "model": model,
            "target": target,
            "guarantee": guarantee,
            "method": method,
            "parameters": dict(parameters or {}),
            "reference": reference,
            "due_at": due_at,
            "dataset": dataset,
        }
        given = {name: value for name, value in body.items() if value is not None}
        return self.post("/v1/forget-requests", given, idempotency_key=idempotency_key)

    def forget_request(self, request_id: str) -> JsonObject:
        """Return a request as it stands."""
        return self.get(_request_path(request_id))

    def forget_requests(self, **filters: str | int | bool) -> list[JsonObject]:
        """Return every request that fits the filters of the API's list, newest first."""
        return self._every("/v1/forget-requests", **filters)

    def cancel(self, request_id: str) -> JsonObject:
        """Withdraw a request."""
        return self.post(f"{_request_path(request_id)}/cancel", None)

    def events(self, request_id: str, *, after: int = 0) -> Iterator[Event]:
        """Yield a request's events, past ones first, as they happen, until the request is settled.

        They come as a server-sent event stream that is taken up again where it broke off; where something on
        the way lets no stream through, the list of events is asked for every second instead.
        """
        streams = True
        while True:
            news = self._stream_events(request_id, after) if streams else self._list_events(request_id, after)
            try:
                for event in news:
                    after = event.id
                    yield event
            except SSEError:
                streams = False
            except ProblemError as error:
                if error.status != httpx.codes.SERVICE_UNAVAILABLE:
                    raise
                streams = False  # The service holds as many streams as it may; the list is always answered.
            except httpx.TransportError:
                pass  # A stream that breaks off is taken up after the last event seen, below.
            if self.forget_request(request_id)["status"] in SETTLED:
                yield from self._list_events(request_id, after)
                return
            time.sleep(1.0)

    def wait(self, request_id: str, *, on_event: Callable[[Event], None] | None = None) -> JsonObject:
        """Follow a request until it is settled and return it."""
        for event in self.events(request_id):
            if on_event is not None:
                on_event(event)
        return self.forget_request(request_id)

    def manifest(self, model: str, version: int | str = "latest") -> Manifest:
        """Return every file of a version with its digest and size."""
        return Manifest.from_json(self.get(f"{_version_path(model, version)}/manifest"))

    def download(
        self,
        model: str,
        directory: Path,
        *,
        version: int | str = "latest",
        progress: Progress | None = None,
    ) -> JsonObject:
        """Download a version into `directory`, which appears whole and verified or not at all.

        A download that broke off goes on where it stopped when it is called again.

        Returns:
            The version.

        Raises:
            DownloadError: A digest is wrong, or `directory` holds something else already.
            ProblemError: The service refuses, for instance because the version is quarantined.
        """
        from app.download import download_version  # noqa: PLC0415 - that module is built on this one

        return download_version(self, model, version, directory, progress)

    def get(self, path: str, **parameters: str | int | bool) -> JsonObject:
        """Call any GET of the API."""
        # httpx would let an empty set of parameters replace the path's own, such as a next page's cursor.
        return self._json(self._repeat(lambda: self._http.get(path, params=parameters or None)))

    def post(
        self,
        path: str,
        body: JsonObject | None,
        *,
        idempotency_key: str | None = None,
        timeout: httpx.Timeout | None = None,
    ) -> JsonObject:
        """Call any POST of the API that takes JSON, at most once in effect."""
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        timeout = timeout or self._http.timeout
        return self._json(
            self._repeat(lambda: self._http.post(path, json=body, headers=headers, timeout=timeout))
        )

    @contextmanager
    def stream(self, path: str, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """Open an answer whose body is read as it comes.

        Raises:
            ProblemError: The service refuses.
            UnreachableError: The connection cannot be made, or breaks while the block reads.
        """
        try:
            with self._http.stream("GET", path, headers=dict(headers)) as response:
                if response.is_error:
                    response.read()
                    raise _problem(response)
                yield response
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def _stream_events(self, request_id: str, after: int) -> Iterator[Event]:
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if after:
            headers["Last-Event-ID"] = str(after)
        timeout = httpx.Timeout(10.0, read=STREAM_SILENCE_SECONDS)
        path = f"{_request_path(request_id)}/events"
        with self._http.stream("GET", path, headers=headers, timeout=timeout) as response:
            if response.is_error:
                response.read()
                raise _problem(response)
            for message in EventSource(response).iter_sse():
                if message.data:
                    yield Event.from_json(json.loads(message.data))

    def _list_events(self, request_id: str, after: int) -> Iterator[Event]:
        for body in self._every(f"{_request_path(request_id)}/events", after=after):
            yield Event.from_json(body)

    def _every(self, path: str, **parameters: str | int | bool) -> list[JsonObject]:
        page = self.get(path, **parameters)
        items = list(page["items"])
        while page.get("next"):
            page = self.get(page["next"])
            items.extend(page["items"])
        return items

    def _deliver(
        self,
        path: str,
        metadata: JsonObject,
        files: Mapping[str, Path],
        uri: str | None,
        progress: Progress | None,
    ) -> JsonObject:
        if (uri is None) != bool(files):
            raise ClientError("Give either files or the URI of what the service shall import.")
        if uri is not None:
            return self.post(path, {**metadata, "uri": uri}, timeout=UPLOAD_TIMEOUT)
        return self._upload(path, metadata, files, progress)

    def _upload(
        self, path: str, metadata: JsonObject, files: Mapping[str, Path], progress: Progress | None
    ) -> JsonObject:
        """Send files as they are read from disk. Not repeated: an upload is too long to be sent twice unasked."""
        total = sum(file.stat().st_size for file in files.values())
        meter = _Meter(progress, total)
        with ExitStack() as stack:
            parts: list[tuple[str, tuple[str | None, str | io.FileIO, str]]] = [
                ("metadata", (None, json.dumps(metadata), "application/json"))
            ]
            for name, file in files.items():
                opened = stack.enter_context(_MeteredFile(file, meter))
                parts.append(("files", (name, opened, "application/octet-stream")))
            headers = {"Idempotency-Key": str(uuid.uuid4())}
            try:
                return self._json(self._http.post(path, files=parts, headers=headers, timeout=UPLOAD_TIMEOUT))
            except httpx.TransportError as error:
                raise self._unreachable(error) from error

    def _repeat(self, call: Callable[[], httpx.Response]) -> httpx.Response:
        """Make a call that may be made again, and make it again where that can help."""
        for attempt in range(1, ATTEMPTS + 1):
            last = attempt == ATTEMPTS
            try:
                response = call()
            except (httpx.ConnectError, httpx.UnsupportedProtocol) as error:
                raise self._unreachable(error) from error
            except httpx.TransportError as error:
                if last:
                    raise self._unreachable(error) from error
                pause = 2.0**attempt / 10
            else:
                pause = _retry_after(response)
                if response.status_code not in RETRIED_STATUSES or last or pause > LONGEST_PAUSE_SECONDS:
                    return response
            time.sleep(pause)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _json(self, response: httpx.Response) -> JsonObject:
        if response.is_error:
            raise _problem(response)
        try:
            body = response.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise ClientError(f"{self._url} answers, but not as Expunge does; is the URL right?")
        return body

    def _unreachable(self, error: httpx.TransportError) -> UnreachableError:
        return UnreachableError(f"No answer from {self._url}: {error or type(error).__name__}.")


class _Meter:
    """Adds up what several files have sent."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0

    def add(self, count: int) -> None:
        self._done += count
        if self._progress is not None:
            self._progress("uploading", self._done, self._total)


class _MeteredFile(io.FileIO):
    """A file that tells a meter what was read of it."""

    def __init__(self, path: Path, meter: _Meter) -> None:
        super().__init__(path, "rb")
        self._meter = meter

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as any file does."""
        data = super().read(-1 if size is None else size) or b""
        self._meter.add(len(data))
        return data


def _data_parts(files: Sequence[Path]) -> dict[str, Path]:
    parts = {path.name: path for path in files}
    if len(parts) < len(files):
        raise ClientError("Two of the data files have the same name.")
    return parts


def _checkpoint_parts(directory: Path) -> dict[str, Path]:
    parts = {
        path.relative_to(directory).as_posix(): path
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
    if not parts:
        raise ClientError(f"There is no checkpoint in {directory}.")
    return parts


def _problem(response: httpx.Response) -> ProblemError:
    try:
        problem = response.json()
    except ValueError:
        problem = None
    return ProblemError(response.status_code, problem if isinstance(problem, dict) else {})


def _retry_after(response: httpx.Response) -> float:
    value = response.headers.get("retry-after", "")
    return float(value) if value.isdecimal() else 1.0


def _segment(name: str) -> str:
    """Return `name` as one segment of a path: a slash or a question mark in it must not make another path."""
    return quote(name, safe="")


def _version_path(model: str, version: int | str) -> str:
    return f"/v1/models/{_segment(model)}/versions/{_segment(str(version))}"


def _request_path(request_id: str) -> str:
    return f"/v1/forget-requests/{_segment(str(request_id))}"
