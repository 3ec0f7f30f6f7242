"""Paths of the API."""

from urllib.parse import quote

from app.client.errors import ClientError


def segment(name: str) -> str:
    """Return `name` as one segment of a path: a slash or a question mark in it must not make another path."""
    return quote(name, safe="")


def version_path(model: str, version: int | str) -> str:
    """Return the path of a version."""
    return f"/v1/models/{segment(model)}/versions/{segment(str(version))}"


def request_path(request_id: str) -> str:
    """Return the path of a forget request."""
    return f"/v1/forget-requests/{segment(str(request_id))}"


def policy_path(model: str | None, family: str | None) -> str:
    """Return the path of a model's or a family's policy.

    Raises:
        ClientError: Not exactly one of them is named.
    """
    if (model is None) == (family is None):
        raise ClientError("Name either a model or a family.")
    kind, name = ("models", model) if model is not None else ("families", family)
    return f"/v1/policies/{kind}/{segment(str(name))}"
