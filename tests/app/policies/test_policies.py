import json

import pytest

from app.policies.base import PolicyFileError, base_policy
from app.runtime import Runtime
from app.settings import Settings
from app.trust.scopes import Scope
from unlearning.audits.policy import AuditPolicy

FAMILY, MODEL, EFFECTIVE = (
    "/v1/policies/families/classifier",
    "/v1/policies/models/pets",
    "/v1/models/pets/policy",
)


@pytest.fixture
def pets(shelf):
    return shelf.model("pets")


@pytest.fixture
def call(client, admin_headers, pets):
    def call(method, path, body=None, headers=admin_headers):
        return client.request(method, path, json=body, headers=headers)

    return call


def slug(answer):
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["type"].rpartition(":")[2]


def test_without_any_policy_the_defaults_are_in_effect(call):
    body = call("GET", EFFECTIVE).json()
    assert body["policy"] == AuditPolicy().model_dump(mode="json")
    assert set(body["sources"].values()) == {"default"}
    assert call("GET", FAMILY).json()["fields"] == {}
    assert call("GET", MODEL).json()["changed_at"] is None


def test_a_model_inherits_from_its_family_what_it_does_not_set_itself(call):
    assert call("PUT", FAMILY, {"deep": True, "retrained_seeds": 7}).status_code == 200
    assert call("PUT", MODEL, {"retrained_seeds": 9, "max_rungs": None}).status_code == 200

    body = call("GET", EFFECTIVE).json()

    assert (body["policy"]["deep"], body["policy"]["retrained_seeds"]) == (True, 9)
    sources = {field: source for field, source in body["sources"].items() if source != "default"}
    assert sources == {"deep": "family", "retrained_seeds": "model", "max_rungs": "model"}


def test_a_put_replaces_all_fields_and_a_delete_removes_them(call):
    call("PUT", MODEL, {"deep": True, "retrained_seeds": 7})
    assert call("PUT", MODEL, {"allow_retrain": False}).json()["fields"] == {"allow_retrain": False}
    assert call("DELETE", MODEL).json()["fields"] == {}
    assert call("GET", EFFECTIVE).json()["policy"]["allow_retrain"] is True


def test_every_change_is_kept_with_its_author_and_time(call, make_key):
    call("PUT", FAMILY, {"deep": True})
    call("PUT", FAMILY, {"deep": False})
    call("DELETE", FAMILY)

    first = call("GET", f"{FAMILY}/changes?limit=2").json()
    second = call("GET", first["next"]).json()

    assert [item["fields"] for item in first["items"] + second["items"]] == [
        None,
        {"deep": False},
        {"deep": True},
    ]
    assert {item["changed_by"] for item in first["items"]} == {"test"}
    assert second["next"] is None
    assert call("GET", f"{MODEL}/changes").json()["items"] == []


@pytest.mark.parametrize(
    "body",
    [
        {"retrained_seeds": 1},
        {"false_alarm_rate": 0.7},
        {"reference": "sometimes"},
        {"unknown": 1},
        {"utility_margin": None},
    ],
)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_bounds_are_checked_before_anything_is_stored(call, body, unchanged):
    with unchanged():
        assert slug(call("PUT", MODEL, body)) == (422, "invalid-request")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_only_an_administrator_changes_policies_and_only_within_the_key(call, make_key):
    reader, writer = make_key(Scope.MODELS_READ), make_key(Scope.MODELS_WRITE)
    other, limited = make_key(Scope.ADMIN, models=["other"]), make_key(Scope.ADMIN, models=["pets"])
    assert call("GET", EFFECTIVE, headers=reader).status_code == 200
    assert slug(call("PUT", MODEL, {}, writer)) == (403, "scope-missing")
    assert slug(call("PUT", MODEL, {}, other)) == (403, "scope-missing")
    assert slug(call("GET", EFFECTIVE, headers=other)) == (403, "scope-missing")
    assert call("PUT", MODEL, {}, limited).status_code == 200
    assert slug(call("PUT", FAMILY, {}, limited)) == (403, "scope-missing")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_policy_for_what_does_not_exist_is_refused(call):
    assert slug(call("PUT", "/v1/policies/models/nobody", {})) == (404, "model-not-found")
    assert slug(call("GET", "/v1/models/nobody/policy")) == (404, "model-not-found")
    assert slug(call("PUT", "/v1/policies/families/nobody", {})) == (422, "unknown-family")


def test_a_request_that_only_retraining_could_serve_is_refused_where_the_policy_forbids_it(call, unchanged):
    call("PUT", MODEL, {"allow_retrain": False})
    body = {"model": "pets", "target": {"kind": "records", "ids": ["r1"]}, "method": "retrain"}
    with unchanged():
        assert slug(call("POST", "/v1/forget-requests", body)) == (422, "retraining-not-allowed")
    assert call("POST", "/v1/forget-requests", body | {"method": "auto"}).status_code == 202
    call("DELETE", MODEL)
    assert call("POST", "/v1/forget-requests", body).status_code == 202


@pytest.fixture
def with_file(settings, tmp_path):
    def with_file(text, suffix=".toml", **changes):
        path = tmp_path / f"policy{suffix}"
        path.write_text(text)
        return settings.model_copy(update={"policy_file": path, **changes})

    return with_file


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_api_overrides_the_file_at_each_level(with_file, pets, runtime, make_key):
    from fastapi.testclient import TestClient

    from app.main import create_app

    settings = with_file(
        """
        [default]
        deep = true
        retrained_seeds = 6
        [families.classifier]
        retrained_seeds = 7
        max_rungs = 2
        [models.pets]
        max_seconds = 60
        """,
        on_inconclusive="review",
    )
    headers = make_key(Scope.ADMIN)
    with TestClient(create_app(settings)) as client:
        client.put(FAMILY, json={"max_rungs": 3, "max_seconds": 5}, headers=headers)
        body = client.get(EFFECTIVE, headers=headers).json()
    expected = {
        "deep": (True, "file"),
        "retrained_seeds": (7, "file_family"),
        "max_rungs": (3, "family"),
        "max_seconds": (60.0, "file_model"),
        "on_inconclusive": ("review", "default"),
    }
    assert {field: (body["policy"][field], body["sources"][field]) for field in expected} == expected


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("text", "suffix", "says"),
    [
        ("[default", ".toml", "cannot be parsed"),
        (json.dumps({"default": {"retrained_seeds": 1}}), ".json", "default.retrained_seeds"),
        (json.dumps({"models": {"pets": {"depp": True}}}), ".json", "models.pets.depp"),
        ("[default]\nmax_seconds = inf", ".toml", "default.max_seconds"),
        ("[families.nobody]\ndeep = true", ".toml", "nobody"),
        ("[]", ".json", "wrong"),
        ("deep: true", ".yaml", "must be .toml or .json"),
    ],
)
def test_a_wrong_policy_file_stops_the_service_with_a_sentence(with_file, text, suffix, says):
    with pytest.raises(PolicyFileError, match=says):
        Runtime.open(with_file(text, suffix))


def test_an_absent_policy_file_is_refused(tmp_path):
    with pytest.raises(PolicyFileError, match="cannot be read"):
        base_policy(Settings(_env_file=None, policy_file=tmp_path / "none.toml"))
