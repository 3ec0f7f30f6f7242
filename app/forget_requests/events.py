"""A forget request's history as it grows: server-sent events.

A stream holds neither a thread nor a database connection while it waits: it looks into the database once in a
while, as workers in other processes write there and nowhere else.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from threading import BoundedSemaphore

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from app.database import Database
from app.forget_requests import repository
from app.forget_requests.errors import TooManyStreamsError
from app.forget_requests.repository import History
from app.forget_requests.schemas import EventRead
from app.forget_requests.states import FINAL
from app.runtime import Runtime
from app.tables.forget_request import RequestStatus

MEDIA_TYPE = "text/event-stream"
BATCH = 500
POLL_SECONDS = 0.05
"""Pause before the first look after something happened; each look in vain makes the next pause longer."""

POLL_GROWTH = 1.5
LONGEST_POLL_SECONDS = 2.0
KEEPALIVE_SECONDS = 15.0
"""Proxies commonly close connections that are silent for 30 to 60 seconds."""

STREAM_SECONDS = 900.0
"""A stream ends after so long; the client's reconnection shows its API key anew."""

RECONNECT_MILLISECONDS = 2000

AT_REST = FINAL | {RequestStatus.FAILED, RequestStatus.NEEDS_REVIEW}
"""States in which nothing more happens by itself: here a stream ends."""


class EventStream(StreamingResponse):
    """Sends a request's events after `after` as they come, until it is at rest and everything was sent.

    Raises:
        TooManyStreamsError: The process serves as many as it may; every stream costs it a connection.
    """

    media_type = MEDIA_TYPE

    def __init__(self, runtime: Runtime, request_id: uuid.UUID, after: int) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # the latter is for nginx
        super().__init__(_events(runtime.database, request_id, after), headers=headers)
        self._slots: BoundedSemaphore = runtime.event_streams
        if not self._slots.acquire(blocking=False):
            raise TooManyStreamsError(runtime.settings.max_event_streams)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the stream, and free its place however it ends."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._slots.release()


async def _events(database: Database, request_id: uuid.UUID, after: int) -> AsyncIterator[bytes]:
    started = spoke = time.monotonic()
    pause = POLL_SECONDS
    while True:
        history = await run_in_threadpool(_read, database, request_id, after)
        for event in history.events:
            shown = EventRead.of(event)
            yield format_sse_event(
                data_str=shown.model_dump_json(),
                event=shown.type,
                id=str(shown.id),
                retry=RECONNECT_MILLISECONDS,
            )
            after, spoke, pause = shown.id, time.monotonic(), POLL_SECONDS
        if history.more:
            continue
        if history.status in AT_REST or time.monotonic() - started >= STREAM_SECONDS:
            return
        if time.monotonic() - spoke >= KEEPALIVE_SECONDS:
            yield KEEPALIVE_COMMENT
            spoke = time.monotonic()
        await asyncio.sleep(pause)
        pause = min(pause * POLL_GROWTH, LONGEST_POLL_SECONDS)


def _read(database: Database, request_id: uuid.UUID, after: int) -> History:
    with database.read() as session:
        return repository.history(session, request_id, after, limit=BATCH)
