"""From checks to a verdict."""

from collections.abc import Sequence

from unlearning.audits.report import Check, Outcome


def judge(checks: Sequence[Check]) -> Outcome:
    """Any gating check fails: fail. Else any gating check inconclusive, or none gating: inconclusive. Else pass.

    >>> def check(outcome, gating=True):
    ...     return Check(name="", formula="", value=None, gating=gating, outcome=outcome, reason="")
    >>> judge([check(Outcome.PASS), check(Outcome.FAIL, gating=False)])
    <Outcome.PASS: 'pass'>
    >>> judge([check(Outcome.INCONCLUSIVE), check(Outcome.FAIL)])
    <Outcome.FAIL: 'fail'>
    >>> judge([])
    <Outcome.INCONCLUSIVE: 'inconclusive'>
    """
    outcomes = {check.outcome for check in checks if check.gating}
    if Outcome.FAIL in outcomes:
        return Outcome.FAIL
    return Outcome.PASS if outcomes == {Outcome.PASS} else Outcome.INCONCLUSIVE


def explain(verdict: Outcome, checks: Sequence[Check]) -> str:
    """Say in a sentence what the verdict rests on."""
    if verdict is Outcome.PASS:
        gating = ", ".join(check.name for check in checks if check.gating)
        return f"Passed every gating check ({gating})."
    decisive = [check for check in checks if check.gating and check.outcome is verdict]
    reasons = " ".join(f"{check.name}: {check.reason}" for check in decisive)
    word = "Failed" if verdict is Outcome.FAIL else "Could not be decided"
    return f"{word}. {reasons or 'No gating check applies.'}"
