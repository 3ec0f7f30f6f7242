from importlib.metadata import EntryPoint

import pytest

from app.main import create_app
from app.settings import Settings
from app.trust.scopes import Scope
from models import plugins
from models.errors import PluginError
from unlearning import catalog
from unlearning.catalog import methods

PROBLEM = "application/problem+json"


def test_list_shows_the_whole_catalog(client, admin_headers):
    answer = client.get("/v1/methods", headers=admin_headers)
    assert answer.status_code == 200
    shown = [(item["family"], item["name"]) for item in answer.json()["items"]]
    assert shown == [(spec.family, spec.name) for spec in methods()]


def test_list_can_be_narrowed_to_a_family(client, admin_headers):
    items = client.get("/v1/methods", params={"family": "classifier"}, headers=admin_headers).json()["items"]
    assert {"acu", "retrain"} <= {item["name"] for item in items}
    assert {item["family"] for item in items} == {"classifier"}


def test_unknown_family_is_refused_with_422(client, admin_headers):
    answer = client.get("/v1/methods", params={"family": "poems"}, headers=admin_headers)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == PROBLEM
    assert answer.json()["type"] == "urn:expunge:problem:unknown-family"
    assert "classifier" in answer.json()["detail"]


def test_method_is_shown_with_the_schema_of_its_parameters(client, admin_headers):
    method = client.get("/v1/methods/classifier/acu", headers=admin_headers).json()
    assert method["guarantee"] == "exact"
    assert method["targets"] == ["classes", "records", "subjects"]
    assert method["architectures"] == ["analytic"]
    assert method["needs"] == ["forget_data", "statistics"]
    assert method["updates"] is True
    assert method["fallback"] is False
    assert method["paper"] == "https://arxiv.org/abs/2505.12239"
    solve = method["configuration"]["properties"]["solve"]
    assert (solve["enum"], solve["default"]) == (["fresh", "update"], "fresh")
    assert method["configuration"]["additionalProperties"] is False


def test_method_for_every_architecture_shows_null(client, admin_headers):
    method = client.get("/v1/methods/classifier/retrain", headers=admin_headers).json()
    assert method["architectures"] is None
    assert method["fallback"] is True


@pytest.mark.parametrize("path", ["classifier/acuu", "poems/acu"])
def test_unknown_method_is_a_404_that_lists_those_there_are(client, admin_headers, path):
    answer = client.get(f"/v1/methods/{path}", headers=admin_headers)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == PROBLEM
    assert answer.json()["type"] == "urn:expunge:problem:method-not-found"
    assert "installed methods" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/v1/methods", "/v1/methods/classifier/acu"])
def test_methods_need_a_key_with_the_scope_to_read_models(client, make_key, path):
    assert client.get(path).status_code == 401
    assert client.get(path, headers=make_key(Scope.REQUESTS_WRITE)).status_code == 403
    assert client.get(path, headers=make_key(Scope.MODELS_READ)).status_code == 200


def test_service_does_not_start_with_a_broken_plug_in(monkeypatch):
    monkeypatch.setattr(plugins, "entry_points", lambda group: [EntryPoint("bad", "no_such_module:X", group)])
    catalog._catalog.cache_clear()
    try:
        with pytest.raises(PluginError, match="no_such_module"):
            create_app(Settings(_env_file=None))
    finally:
        catalog._catalog.cache_clear()
