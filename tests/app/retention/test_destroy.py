import pytest
from sqlalchemy import select

from app.tables import Event, Model, Version
from app.tables.version import VersionState
from app.trust.scopes import Scope

REASON = {"reason": "the controller asked for it"}


@pytest.fixture
def forgotten(yard, worker):
    model = yard.model()
    yard.request(model, "r1")
    worker.run_until_idle()
    return model


def url(version: int, action: str = "/destroy") -> str:
    return f"/v1/models/pets/versions/{version}{action}"


def test_a_quarantined_version_is_destroyed_at_once(client, admin_headers, yard, forgotten):
    assert client.get(url(1, "/archive"), headers=admin_headers).status_code == 403
    answer = client.post(url(1), json=REASON, headers=admin_headers | {"Idempotency-Key": "k"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["state"] == "destroyed"
    assert answer.json()["destroy_after"] > answer.json()["destroyed_at"]
    assert client.get(url(1, "/archive"), headers=admin_headers).status_code == 410
    assert not yard.runtime.storage.exists(yard.get(Version, (forgotten.id, 1)).location)
    with yard.runtime.database.read() as session:
        event = session.scalars(select(Event).where(Event.type == "destroyed")).one()
    assert event.reason.endswith(REASON["reason"])
    again = client.post(url(1), json=REASON, headers=admin_headers | {"Idempotency-Key": "k"})
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    assert client.post(url(1), json=REASON, headers=admin_headers).status_code == 410


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_refusals(client, admin_headers, make_key, yard, forgotten, subtests):
    def slug(version, headers=admin_headers, body=REASON):
        answer = client.post(url(version), json=body, headers=headers)
        return answer.status_code, answer.json()["type"].rpartition(":")[2]

    for case, expected in (
        (slug(2), (409, "version-published")),
        (slug(3), (404, "version-not-found")),
        (slug(1, make_key(Scope.MODELS_WRITE, Scope.REQUESTS_WRITE)), (403, "scope-missing")),
        (slug(1, make_key(Scope.ADMIN, models=["other"])), (403, "scope-missing")),
        (slug(1, body={"reason": " "}), (422, "invalid-request")),
        (slug(1, body={}), (422, "invalid-request")),
    ):
        with subtests.test(expected=expected):
            assert case == expected
    with yard.runtime.database.write() as session:
        session.get_one(Model, forgotten.id).latest_version = 1
    assert slug(1) == (409, "version-published")
    assert yard.get(Version, (forgotten.id, 1)).state is VersionState.QUARANTINED


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_failed_deletion_leaves_the_version_in_quarantine(
    client, admin_headers, yard, forgotten, monkeypatch
):
    storage = client.app.state.runtime.storage
    with monkeypatch.context() as patch:
        patch.setattr(type(storage), "delete", lambda *_: (_ for _ in ()).throw(OSError("no")))
        assert client.post(url(1), json=REASON, headers=admin_headers).status_code == 500
    assert yard.get(Version, (forgotten.id, 1)).state is VersionState.QUARANTINED
    assert client.post(url(1), json=REASON, headers=admin_headers).status_code == 200
