"""Every client command against a whole running service."""

import json

import pytest

from app.cli.demo.digits import Digits
from models.checkpoint import verify_directory


@pytest.fixture(scope="module")
def digits():
    return Digits.load()


def test_methods_are_listed(connected, expunge):
    assert {method["name"] for method in expunge("methods", "--json").json} >= {"acu", "retrain"}
    assert "acu" in expunge("methods", "classifier").out


def test_an_unknown_family_is_the_services_sentence(connected, expunge):
    outcome = expunge("methods", "poetry")
    assert outcome.status == 1
    assert "poetry" in outcome.err
    assert "unknown-family" in outcome.err


def test_a_wrong_key_is_one_line(connected, expunge):
    outcome = expunge("status", "--api-key", "xp_wrong")
    assert outcome.status == 1
    assert outcome.err.count("\n") == 1
    assert "401" in outcome.err


def test_a_plan_names_rungs_and_reasons(connected, expunge):
    plan = expunge("plan", "digits", "digit-0100", "--json").json
    assert plan["rungs"][0]["method"] == "acu"
    assert "acu" in expunge("plan", "digits", "digit-0100").out


def test_a_named_method_rules_the_others_out(connected, expunge):
    outcome = expunge(
        "plan", "digits", "digit-0100", "--method", "acu", "-p", "solve=update", "-p", "max_rank=8"
    )
    assert outcome.status == 0
    assert "not retrain:" in outcome.err


def test_unknown_ids_are_named(connected, expunge):
    outcome = expunge("forget", "digits", "nobody")
    assert outcome.status == 1
    assert "nobody" in outcome.err


def test_a_request_is_followed_to_its_end_and_its_version_downloaded(connected, expunge, tmp_path):
    outcome = expunge(
        "forget", "digits", "digit-0001", "digit-0002", "--reference", "DSR-1", "--wait", "--json"
    )
    assert outcome.status == 0, outcome.err
    request = outcome.json
    assert request["status"] == "completed"

    assert expunge("status", request["id"], "--json").json["version"] == request["version"]
    assert "completed" in expunge("status", request["id"]).out
    assert "DSR-1" in expunge("status", "--state", "completed", "--model", "digits").out
    assert request["id"] in {listed["id"] for listed in expunge("status", "--json").json}

    watched = expunge("watch", request["id"], "--json")
    assert watched.status == 0
    assert watched.json["id"] == request["id"]
    assert "completed:" in watched.err

    got = expunge("download", "digits", tmp_path / "new", "--version", request["version"], "--json").json
    assert verify_directory(tmp_path / "new").digest == got["digest"]

    refused = expunge("download", "digits", tmp_path / "old", "--version", 1)
    assert refused.status == 1
    assert "quarantined" in refused.err
    assert not (tmp_path / "old").exists()


def test_a_download_goes_to_a_directory_named_after_the_version(connected, expunge, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = expunge("download", "digits")
    assert outcome.status == 0
    number = connected.client.version("digits")["number"]
    assert verify_directory(tmp_path / f"digits-{number}").files


def test_data_and_models_are_registered_and_grow(connected, expunge, tmp_path, digits):
    some = digits.where(digits.labels != "9")
    some.where(some.ids < "digit-0600").write(tmp_path / "first.npz")
    some.where(some.ids >= "digit-0600").write(tmp_path / "more.npz")

    dataset = expunge("register", "dataset", "grown", tmp_path / "first.npz", "--json").json
    trained = expunge(
        "train", tmp_path / "first.npz", "--out", tmp_path / "trained", "-r", "feature_dim=32", "--json"
    ).json
    assert verify_directory(tmp_path / "trained").digest == trained["digest"]

    model = expunge("register", "model", "grown", tmp_path / "trained", "--dataset", "grown", "--json").json
    assert model["dataset"] == dataset["id"]

    snapshot = expunge("register", "snapshot", "grown", tmp_path / "more.npz", "--json").json
    assert snapshot["records"] == len(some)
    version = expunge("register", "version", "grown", tmp_path / "trained", "--json").json
    assert version["number"] == 2


def test_every_model_of_a_dataset_is_asked_at_once(connected, expunge):
    dataset = next(one for one in connected.client.datasets() if one["name"] == "digits")
    outcome = expunge(
        "forget", "*", "digit-0003", "--dataset", dataset["id"], "--guarantee", "exact", "--wait", "--json"
    )
    assert outcome.status == 0, outcome.err
    assert [request["status"] for request in outcome.json] == ["completed"]


def test_a_recipe_file_is_read(expunge, tmp_path, digits):
    digits.where(digits.ids < "digit-0200").write(tmp_path / "some.npz")
    (tmp_path / "recipe.json").write_text(json.dumps({"feature_dim": 16}))
    arguments = ["train", tmp_path / "some.npz", "--out", tmp_path / "t", "--json"]
    trained = expunge(*arguments, "--recipe-file", tmp_path / "recipe.json").json
    assert trained["model"]["feature_dim"] == 16


@pytest.mark.parametrize("recipe", [["-r", "gamma=-1"], ["-r", "poetry=1"], ["-r", "architecture=poetry"]])
def test_a_wrong_recipe_leaves_nothing_behind(expunge, tmp_path, digits, recipe):
    digits.where(digits.ids < "digit-0050").write(tmp_path / "some.npz")
    outcome = expunge("train", tmp_path / "some.npz", "--out", tmp_path / "out" / "t", *recipe)
    assert outcome.status == 1
    assert outcome.err.count("\n") == 1
    assert list((tmp_path / "out").iterdir()) == []


def test_an_existing_directory_is_not_trained_over(expunge, tmp_path):
    (tmp_path / "data.npz").write_bytes(b"")
    outcome = expunge("train", tmp_path / "data.npz", "--out", tmp_path)
    assert outcome.status == 1
    assert "name another directory" in outcome.err
