"""What forgetting costs in usefulness on held-out records.

An approximate method is held to what retraining costs, where retrained references are there: a class or a rare kind of
record may be worth some accuracy, and forgetting it rightly loses that too. Without references, and for
retraining itself, the original is the anchor. The records are those of the audit half, less what was forgotten: no
method has seen them. What is measured on them, a family says (`Utility`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from unlearning.audits.metrics.estimate import Estimate
from unlearning.audits.report import Check, Outcome
from unlearning.errors import MetricError, MissingReferenceError


@dataclass(frozen=True)
class Utility:
    """How a family measures usefulness. Differences are paired: every model faces the same held-out records.

    Attributes:
        noun: What is measured, such as accuracy; it stands in the checks' names and reasons.
        formula: How it is computed.
        change_formula: How the difference to the original is computed, and its interval.
        retrained_formula: The same of the difference to the retrained models.
        n: Held-out records.
        held_out: Gives the figure of the candidate and of the original.
        change: Gives the candidate's figure less the original's.
        against_retrained: Gives the candidate's figure less the retrained models' mean.

    All three raise `MetricError` where there is no figure, the last one `MissingReferenceError` too.
    """

    noun: str
    formula: str
    change_formula: str
    retrained_formula: str
    n: int
    held_out: Callable[[], tuple[Estimate, Estimate]]
    change: Callable[[], Estimate]
    against_retrained: Callable[[], Estimate]


def utility_checks(
    utility: Utility,
    margin: float,
    *,
    gating: bool,
    against_retrained: bool,
    two_sided: bool = False,
    original_gates: bool = False,
) -> Iterator[Check]:
    """Measure usefulness on held-out records, and what changed.

    Args:
        utility: What is measured.
        margin: Loss that is allowed.
        gating: Whether the verdict depends on it.
        against_retrained: Whether retrained references are the anchor that decides, if they are there.
        two_sided: Whether being more useful than the retrained models, beyond the margin, is held against the candidate
            too.
        original_gates: Whether the original decides beside the retrained references: where forgetting can ruin even a
            model that is retrained rightly.
    """
    if not utility.n:
        yield _undecided(
            f"held-out {utility.noun}",
            utility.formula,
            0,
            "The data set has no held-out records in its audit half.",
            reference_name=None,
            gating=gating,
        )
        return
    yield _held_out(utility)
    decides = (
        _against_retrained(utility, margin, gating=gating, two_sided=two_sided) if against_retrained else None
    )
    yield _change(utility, margin, gating=gating and (original_gates or decides is None))
    if decides is not None:
        yield decides


def _held_out(utility: Utility) -> Check:
    name = f"held-out {utility.noun}"
    try:
        measured, original = utility.held_out()
    except MetricError as error:
        return _undecided(
            name, utility.formula, utility.n, str(error), reference_name="original", gating=False
        )
    return Check(
        name=name,
        formula=utility.formula,
        group="utility",
        value=measured.value,
        reference=original.value,
        reference_name="original",
        interval=measured.interval,
        n=measured.n,
        gating=False,
        outcome=Outcome.PASS,
        reason="Measured on held-out records that no method has seen.",
    )


def _change(utility: Utility, margin: float, *, gating: bool) -> Check:
    name = f"change of {utility.noun}"
    try:
        change = utility.change()
    except MetricError as error:
        return _undecided(
            name, utility.change_formula, utility.n, str(error), reference_name="original", gating=gating
        )
    return _judged(
        name,
        utility.change_formula,
        change,
        (-margin, None),
        words=(f"{_capital(utility.noun)} fell", ""),
        reference_name="original",
        gating=gating,
    )


def _against_retrained(utility: Utility, margin: float, *, gating: bool, two_sided: bool) -> Check | None:
    """Compare with the mean of the retrained models; None where there are none."""
    name = f"{utility.noun} against retraining"
    try:
        change = utility.against_retrained()
    except MissingReferenceError:
        return None
    except MetricError as error:
        return _undecided(
            name, utility.retrained_formula, utility.n, str(error), reference_name="retrained", gating=gating
        )
    noun = _capital(utility.noun)
    return _judged(
        name,
        utility.retrained_formula,
        change,
        (-margin, margin if two_sided else None),
        words=(f"{noun} is below retraining's", f"{noun} is above retraining's"),
        reference_name="retrained",
        gating=gating,
    )


def _judged(
    name: str,
    formula: str,
    change: Estimate,
    limits: tuple[float, float | None],
    *,
    words: tuple[str, str],
    reference_name: str,
    gating: bool,
) -> Check:
    least, most = limits
    low, high = change.interval
    below, above = words
    if most is not None and low > most:
        outcome, reason = (
            Outcome.FAIL,
            f"{above} by more than {most:.0%}: it still profits from what was forgotten.",
        )
    elif high < least:
        outcome, reason = Outcome.FAIL, f"{below} by more than {-least:.0%}."
    elif low >= least and (most is None or high <= most):
        outcome, reason = Outcome.PASS, f"{below} by no more than {-least:.0%}."
    else:
        outcome, reason = Outcome.INCONCLUSIVE, f"{change.n} held-out records are too few to tell."
    return Check(
        name=name,
        formula=formula,
        group="utility",
        value=change.value,
        reference=0.0,
        reference_name=reference_name,
        interval=change.interval,
        n=change.n,
        bound=f"≥ -{-least:g}" if most is None else f"{least:g} to {most:g}",
        limits=limits,
        gating=gating,
        outcome=outcome,
        reason=reason,
    )


def _undecided(
    name: str, formula: str, n: int, reason: str, *, reference_name: str | None, gating: bool
) -> Check:
    return Check(
        name=name,
        formula=formula,
        group="utility",
        value=None,
        reference_name=reference_name,
        n=n,
        gating=gating,
        outcome=Outcome.INCONCLUSIVE,
        reason=reason,
    )


def _capital(noun: str) -> str:
    """Begin a sentence with it; the rest of an abbreviation stays as it is."""
    return noun[:1].upper() + noun[1:]
