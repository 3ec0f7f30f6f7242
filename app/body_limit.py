"""Bodies larger than allowed are refused while they arrive, not after they filled the memory.

FastAPI's own `max_body_size` is fixed where a route is declared, before any settings are read; and its answer is
no problem document.
"""

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LIMIT_KEY = "expunge.body_limit"


class Limit:
    """How many bytes one call's body may have; an endpoint that streams to disk raises it."""

    def __init__(self, max_bytes: int, max_upload_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._max_upload_bytes = max_upload_bytes

    def expect_upload(self) -> None:
        """Allow what an upload may have."""
        self.max_bytes = self._max_upload_bytes


def expect_upload(request: Request) -> None:
    """Let this call's body be as large as an upload: only for endpoints that never hold it in memory."""
    limit: Limit = request.scope[LIMIT_KEY]
    limit.expect_upload()


class BodyLimit:
    """ASGI middleware: every body is small, unless its endpoint says that it expects an upload.

    The media type decides nothing: a client could give any body the name of an upload.
    """

    def __init__(self, app: ASGIApp, *, max_body_bytes: int, max_upload_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._max_upload_bytes = max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count the bytes of the body as they come in."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = scope[LIMIT_KEY] = Limit(self._max_body_bytes, self._max_upload_bytes)
        declared = Headers(scope=scope).get("content-length", "")
        received = 0

        async def counted() -> Message:
            nonlocal received
            if declared.isdecimal() and int(declared) > limit.max_bytes:
                raise _too_large(limit.max_bytes)
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit.max_bytes:
                raise _too_large(limit.max_bytes)
            return message

        await self._app(scope, counted, send)


def _too_large(limit: int) -> HTTPException:
    # An HTTPException, because FastAPI turns any other error met while it reads a body into a 400.
    # The rest of the body is never read, so the connection cannot be used again.
    return HTTPException(413, f"The body is larger than {limit} bytes.", headers={"Connection": "close"})
