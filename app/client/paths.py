"""Paths of the API."""

from urllib.parse import quote


def segment(name: str) -> str:
    """Return `name` as one segment of a path: a slash or a question mark in it must not make another path."""
    return quote(name, safe="")


def version_path(model: str, version: int | str) -> str:
    """Return the path of a version."""
    return f"/v1/models/{segment(model)}/versions/{segment(str(version))}"


def request_path(request_id: str) -> str:
    """Return the path of a forget request."""
    return f"/v1/forget-requests/{segment(str(request_id))}"
