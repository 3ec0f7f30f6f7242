import pytest

from unlearning.audits.report import Check, Outcome
from unlearning.audits.verdict import explain, judge


def check(outcome, *, gating=True, name="check", reason="because"):
    return Check(name=name, formula="", value=None, gating=gating, outcome=outcome, reason=reason)


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        ([], Outcome.INCONCLUSIVE),
        ([Outcome.PASS], Outcome.PASS),
        ([Outcome.PASS, Outcome.INCONCLUSIVE], Outcome.INCONCLUSIVE),
        ([Outcome.INCONCLUSIVE, Outcome.FAIL, Outcome.PASS], Outcome.FAIL),
    ],
)
def test_failing_is_stronger_than_not_knowing_and_that_than_passing(outcomes, verdict):
    assert judge([check(outcome) for outcome in outcomes]) is verdict


def test_checks_that_do_not_gate_do_not_decide():
    informative = check(Outcome.FAIL, gating=False)
    assert judge([informative, check(Outcome.PASS)]) is Outcome.PASS
    assert judge([informative]) is Outcome.INCONCLUSIVE


def test_the_sentence_names_what_decided():
    checks = [check(Outcome.PASS, name="first"), check(Outcome.FAIL, name="second", reason="It is wrong.")]
    assert explain(Outcome.FAIL, checks) == "Failed. second: It is wrong."
    assert explain(Outcome.PASS, checks[:1]) == "Passed every gating check (first)."
    assert "No gating check applies" in explain(Outcome.INCONCLUSIVE, [])
