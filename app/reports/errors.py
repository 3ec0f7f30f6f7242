"""Why there is no page. Each of them leaves the JSON answer as it is."""

from app.errors import ServiceError


class ReportNotInstalledError(ServiceError):
    """This installation draws no pages."""

    status, slug, title = 501, "report-not-installed", "Reports not installed"

    def __init__(self, missing: list[str]) -> None:
        super().__init__(
            f"This service draws no pages: {' and '.join(missing)} must be installed with it "
            "(`pip install 'expunge[report]'`). The same figures are to be had as JSON, with `Accept: application/json`."
        )


class ReportBusyError(ServiceError):
    """As many pages are being drawn as may be at once."""

    status, slug, title = 503, "report-busy", "Too many reports"

    def __init__(self, retry_after: int) -> None:
        super().__init__("Other pages are being drawn just now. Ask for this one again in a moment.")
        self.headers["Retry-After"] = str(retry_after)


class ReportFailedError(ServiceError):
    """The page could not be drawn."""

    status, slug, title = 500, "report-failed", "Report failed"

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The page could not be drawn: {why}. The same figures are to be had as JSON, with `Accept: application/json`."
        )
