"""Following a forget request."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

import httpx
from httpx_sse import EventSource

from app.client.errors import ProblemError, UnreachableError
from app.client.paths import request_path
from app.client.transport import JsonObject, Transport

SETTLED = frozenset({"completed", "failed", "needs_review", "cancelled", "refused"})
"""States in which nothing more happens to a request until somebody acts."""

POLL_SECONDS = 1.0
STREAM_TIMEOUT = httpx.Timeout(10.0, read=60.0)
"""The service comments on silence every quarter of a minute; a stream silent for longer than this is dead."""


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


class _NoStreamError(Exception):
    """The answer is no event stream: something on the way stands in for the service, or nothing will follow."""


def follow(api: Transport, request_id: str, after: int) -> Iterator[Event]:
    """Yield a request's events; see `Client.events`."""
    streams = True
    while True:
        news = _stream(api, request_id, after) if streams else _list(api, request_id, after)
        try:
            for event in news:
                after = event.id
                yield event
        except _NoStreamError:
            streams = False
        except UnreachableError:
            pass  # A stream that broke off is taken up after the last event seen; a dead service is noticed below.
        except ProblemError as error:
            if error.status != httpx.codes.SERVICE_UNAVAILABLE:
                raise
            streams = False  # The service holds as many streams as it may; the list is always answered.
        if api.get(request_path(request_id))["status"] in SETTLED:
            yield from _list(api, request_id, after)
            return
        time.sleep(POLL_SECONDS)


def _stream(api: Transport, request_id: str, after: int) -> Iterator[Event]:
    headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
    if after:
        headers["Last-Event-ID"] = str(after)
    with api.stream(f"{request_path(request_id)}/events", headers, timeout=STREAM_TIMEOUT) as response:
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            raise _NoStreamError
        for message in EventSource(response).iter_sse():
            if message.data:
                yield Event.from_json(json.loads(message.data))


def _list(api: Transport, request_id: str, after: int) -> Iterator[Event]:
    for body in api.get_all(f"{request_path(request_id)}/events", after=after):
        yield Event.from_json(body)
