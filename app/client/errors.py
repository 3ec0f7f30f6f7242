"""Why a call of the client did not come to its end."""

from typing import Any


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

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        self.status = status
        self.problem = problem
        self.slug = str(problem.get("type", "")).rpartition(":")[2]
        detail = problem.get("detail") or problem.get("title") or "The service gave no reason."
        super().__init__(f"{detail} ({status}{f' {self.slug}' if self.slug else ''})")
