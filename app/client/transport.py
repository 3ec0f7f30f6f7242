"""HTTP underneath the client: what is repeated, how files are sent, what an answer means."""

import io
import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from app.client.errors import ClientError, ProblemError, UnreachableError

JsonObject = dict[str, Any]
Progress = Callable[[str, int, int], None]
"""Called as `progress(what, bytes done, bytes of it)`."""

ATTEMPTS = 4
"""Tries of one call that the service was too busy for, or whose connection broke."""
LONGEST_PAUSE_SECONDS = 10.0
UPLOAD_TIMEOUT = httpx.Timeout(60.0, connect=10.0, read=3600.0)
"""What was uploaded or imported is parsed and hashed before it is answered, so the answer may take its time."""
RETRIED_STATUSES = frozenset({429, 503})


class Transport:
    """Calls of one service under one API key.

    Args:
        url: Where the service is.
        api_key: The key's secret.
        timeout: Seconds to wait for the service to begin to answer.
    """

    def __init__(self, url: str, api_key: str, *, timeout: float) -> None:
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

    def close(self) -> None:
        """Close every connection."""
        self._http.close()

    def get(self, path: str, **parameters: str | int | bool) -> JsonObject:
        """Call any GET of the API."""
        # httpx would let an empty set of parameters replace the path's own, such as a next page's cursor.
        return self._json(self._repeat(lambda: self._http.get(path, params=parameters or None)))

    def get_all(self, path: str, **parameters: str | int | bool) -> list[JsonObject]:
        """Call a GET that answers in pages, and return the items of all of them."""
        page = self.get(path, **parameters)
        items = list(page["items"])
        while page.get("next"):
            page = self.get(page["next"])
            items.extend(page["items"])
        return items

    def content(self, path: str, *, accept: str = "*/*") -> bytes:
        """Call any GET of the API and return the answer's bytes as they are, in the form that `accept` names."""
        response = self._repeat(lambda: self._http.get(path, headers={"Accept": accept}))
        if response.is_error:
            raise _problem(response)
        return response.content

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

    def put(self, path: str, body: JsonObject) -> JsonObject:
        """Call any PUT of the API; to repeat one is harmless."""
        return self._json(self._repeat(lambda: self._http.put(path, json=body)))

    def delete(self, path: str) -> JsonObject:
        """Call any DELETE of the API; to repeat one is harmless."""
        return self._json(self._repeat(lambda: self._http.delete(path)))

    @contextmanager
    def stream(
        self, path: str, headers: Mapping[str, str], *, timeout: httpx.Timeout | None = None
    ) -> Iterator[httpx.Response]:
        """Open an answer whose body is read as it comes.

        Raises:
            ProblemError: The service refuses.
            UnreachableError: The connection cannot be made, or breaks while the block reads.
        """
        try:
            timeout = timeout or self._http.timeout
            with self._http.stream("GET", path, headers=dict(headers), timeout=timeout) as response:
                if response.is_error:
                    response.read()
                    raise _problem(response)
                yield response
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def deliver(
        self,
        path: str,
        metadata: JsonObject,
        files: Mapping[str, Path],
        uri: str | None,
        progress: Progress | None,
    ) -> JsonObject:
        """Register something: upload its files, or have the service import it from `uri`."""
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


def _problem(response: httpx.Response) -> ProblemError:
    try:
        problem = response.json()
    except ValueError:
        problem = None
    return ProblemError(response.status_code, problem if isinstance(problem, dict) else {})


def _retry_after(response: httpx.Response) -> float:
    value = response.headers.get("retry-after", "")
    return float(value) if value.isdecimal() else 1.0
