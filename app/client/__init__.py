"""A client of the service for Python programs; the command line is built on it. Torch-free."""

from app.client.client import Client
from app.client.errors import ClientError, DownloadError, ProblemError, UnreachableError
from app.client.events import SETTLED, Event
from app.client.transport import JsonObject, Progress

__all__ = [
    "SETTLED",
    "Client",
    "ClientError",
    "DownloadError",
    "Event",
    "JsonObject",
    "ProblemError",
    "Progress",
    "UnreachableError",
]
