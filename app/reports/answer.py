"""A report as an HTTP answer: JSON, or the page where the client would rather have that."""

from typing import Any

from fastapi import Request, Response

from app.reports import printing
from app.reports.negotiation import HTML, prefers_html
from app.reports.schemas import Sheet
from app.runtime import Runtime

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""The page is one file that asks for nothing: no script, no picture, no font from anywhere."""

VARY = {"Vary": "Accept"}
PAGE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The report.", "content": {HTML: {"schema": {"type": "string"}}}},
}


def wants_page(request: Request) -> bool:
    """Tell whether a client would rather have the page than JSON."""
    return prefers_html(request.headers.get("accept"))


def page_response(runtime: Runtime, sheet: Sheet) -> Response:
    """Answer a page; takes seconds where nobody has asked for it before, so no transaction may be open.

    Raises:
        ServiceError: There is none, for a reason that `app.reports.errors` knows.
    """
    return Response(
        printing.page(sheet, runtime.settings.cache_dir),
        media_type=HTML,
        headers={
            **VARY,
            "Content-Security-Policy": CONTENT_SECURITY_POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "private, no-cache",
        },
    )
