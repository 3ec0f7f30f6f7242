import pytest


@pytest.fixture
def migrated(expunge):
    assert expunge("migrate").status == 0


def create(expunge, *more):
    outcome = expunge("keys", "create", "--name", "ci", "--scope", "requests:write", "--json", *more)
    assert outcome.status == 0
    return outcome.json


def states(expunge):
    return {key["id"]: key["state"] for key in expunge("keys", "list", "--json").json}


@pytest.mark.usefixtures("migrated")
def test_a_key_is_shown_once_and_never_again(expunge):
    made = create(expunge)
    assert made["secret"].startswith("xp_")
    listed = expunge("keys", "list")
    assert made["id"] in listed.out
    assert made["secret"] not in listed.out


@pytest.mark.usefixtures("migrated")
def test_only_the_secret_is_on_standard_output_first(expunge):
    outcome = expunge("keys", "create", "--name", "ci", "--scope", "admin")
    assert outcome.out.splitlines()[0].startswith("xp_")


@pytest.mark.usefixtures("migrated")
def test_a_key_holds_what_was_asked_for(expunge):
    made = create(expunge, "--scope", "models:read", "--model", "digits", "--expires-in", "90d")
    assert made["scopes"] == ["models:read", "requests:write"]
    assert made["models"] == ["digits"]
    assert made["expires_at"] > made["created_at"]


@pytest.mark.usefixtures("migrated")
def test_a_revoked_key_is_listed_as_such(expunge):
    made = create(expunge)
    assert expunge("keys", "revoke", made["id"], "--json").json["state"] == "revoked"
    assert states(expunge) == {made["id"]: "revoked"}


@pytest.mark.usefixtures("migrated")
def test_an_expired_key_is_listed_as_such(expunge):
    made = create(expunge, "--expires-in", "0s")
    assert states(expunge) == {made["id"]: "expired"}


@pytest.mark.usefixtures("migrated")
def test_rotation_ends_the_old_key_and_keeps_what_it_may_do(expunge):
    old = create(expunge, "--model", "digits")
    new = expunge("keys", "rotate", old["id"], "--json").json
    assert new["secret"] != old["secret"]
    assert (new["scopes"], new["models"]) == (old["scopes"], old["models"])
    assert states(expunge) == {old["id"]: "revoked", new["id"]: "active"}


@pytest.mark.usefixtures("migrated")
@pytest.mark.parametrize("command", ["revoke", "rotate"])
def test_an_unknown_key_is_a_refusal(expunge, command):
    outcome = expunge("keys", command, "00000000-0000-0000-0000-000000000000")
    assert outcome.status == 1
    assert "There is no API key" in outcome.err
