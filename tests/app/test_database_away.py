"""A database that is away or busy is no failure of the service: the caller is told to come back."""

import pytest
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app.database import Database

AWAY = [
    OperationalError("INSERT", {}, OSError("the database system is shutting down")),
    InterfaceError("INSERT", {}, OSError("the connection is closed")),
    PoolTimeoutError("every connection is in use"),
]


@pytest.mark.parametrize("error", AWAY, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(("method", "url"), [("POST", "/v1/forget-requests"), ("GET", "/v1/models")])
def test_a_database_that_is_away_is_answered_with_503_and_when_to_come_back(
    client, admin_headers, monkeypatch, error, method, url
):
    def away(*_):
        raise error

    for name in ("read", "write", "append"):
        monkeypatch.setattr(Database, name, away)

    body = {"model": "reader", "target": {"kind": "records", "ids": ["r1"]}}
    response = client.request(method, url, headers=admin_headers, json=body if method == "POST" else None)

    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"] == "urn:expunge:problem:database-away"
    assert "INSERT" not in response.text
