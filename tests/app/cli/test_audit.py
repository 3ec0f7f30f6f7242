"""`audit` and `policy` against a running service."""

import pytest

FORGOTTEN = [f"digit-000{number}" for number in range(5)]


def test_an_untouched_version_does_not_pass(expunge, connected):
    outcome = expunge(
        "audit", "run", "digits", *FORGOTTEN, "--original", 1, "--candidate", 1, "--wait", "--json"
    )
    assert outcome.status == 1
    assert (outcome.json["status"], outcome.json["verdict"]) == ("completed", "fail")
    assert "statistics" in outcome.err
    [listed] = [
        audit for audit in connected.client.audit_runs(model="digits") if audit["id"] == outcome.json["id"]
    ]
    assert listed["verdict"] == "fail"


def test_a_checkpoint_of_somebody_else_is_judged_and_printed(expunge, connected):
    outcome = expunge(
        "audit", "run", "digits", *FORGOTTEN, "--original", 1, "--checkpoint", connected.checkpoint, "--wait"
    )
    assert outcome.status == 1
    assert "statistics *" in outcome.out
    assert connected.client.model("digits")["latest_version"] >= 1


@pytest.mark.parametrize("more", [[], ["--candidate", 1, "--uri", "/data/x"]])
def test_exactly_one_thing_is_judged(expunge, connected, more):
    outcome = expunge("audit", "run", "digits", "digit-0001", "--original", 1, *more)
    assert (outcome.status, outcome.out) == (1, "")
    assert "one of --candidate, --checkpoint and --uri" in outcome.err


def test_a_policy_is_set_field_by_field_and_shown_with_its_sources(expunge, connected):
    assert expunge("policy", "set", "digits", "retrained_seeds=7", "max_rungs=2").status == 0
    outcome = expunge("policy", "set", "digits", "deep=true", "--unset", "max_rungs", "--json")
    assert outcome.json["fields"] == {"retrained_seeds": 7, "deep": True}
    shown = expunge("policy", "show", "digits", "--json").json
    assert (shown["policy"]["retrained_seeds"], shown["sources"]["deep"]) == (7, "model")
    table = expunge("policy", "show", "digits").out
    assert "retrained_seeds" in table
    assert expunge("policy", "set", "digits", "--unset", "retrained_seeds", "--unset", "deep").status == 0
    assert connected.client.policy_fields(model="digits")["fields"] == {}
    assert expunge("policy", "set", "--family", "classifier", "false_alarm_rate=0.05").status == 0
    assert "0.05" in expunge("policy", "show", "--family", "classifier").out
    assert expunge("policy", "set", "--family", "classifier", "--unset", "false_alarm_rate").status == 0


def test_a_wrong_policy_is_refused_in_one_line(expunge, connected):
    assert "retrained_seeds" in expunge("policy", "set", "digits", "retrained_seeds=1").err
    assert "Name either" in expunge("policy", "show").err
    assert "at least one" in expunge("policy", "set", "digits").err
