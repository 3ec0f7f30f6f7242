"""The sentences of a page, from the figures of a sheet. Nothing here is measured or decided."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from app.reports import words
from app.reports.schemas import Sheet
from unlearning.audits.policy import AuditPolicy
from unlearning.audits.report import Audit, Check, Outcome

OUTCOMES = {Outcome.PASS: "Passed", Outcome.FAIL: "Failed", Outcome.INCONCLUSIVE: "Could not decide"}
SIGNS = {Outcome.PASS: "✓", Outcome.FAIL: "✗", Outcome.INCONCLUSIVE: "?"}
"""Beside the word, for the eye; screen readers leave them out."""
RETRAINED = "retrained"
DEEP = ("lira", "u-lira")


@dataclass(frozen=True)
class Setting:
    """One field of a policy or a configuration."""

    name: str
    value: str
    meaning: str = ""


def title(sheet: Sheet) -> str:
    """Return what the page is about."""
    if sheet.independent is None:
        return f"Audit of version {sheet.version} of {words.plain(sheet.model)}"
    if sheet.independent.candidate is not None:
        return f"Independent audit of version {sheet.independent.candidate} of {words.plain(sheet.model)}"
    return f"Independent audit of a checkpoint for {words.plain(sheet.model)}"


def warning(sheet: Sheet) -> str | None:
    """Return what stands above everything else: that the version was published without having passed."""
    accepted = sheet.acceptance
    if accepted is None:
        return None
    undecided = sheet.audit is not None and sheet.audit.verdict is Outcome.INCONCLUSIVE
    although = "although the audit could not decide" if undecided else "although the audit did not pass"
    if accepted.by == "policy":
        return f"Published {although}: {words.plain(accepted.reason)}"
    who = words.plain(accepted.reviewer) if accepted.reviewer else "a person"
    return f"Published {although}, because {who} accepted it: “{words.plain(accepted.reason)}”"


def verdict(sheet: Sheet) -> str:
    """Return the verdict in a sentence."""
    audit, what = sheet.audit, _subject(sheet)
    if audit is None:
        return f"There is no verdict on {what} yet."
    if audit.verdict is Outcome.PASS:
        return _passed(audit, what)
    deciding = checks(audit, gating=True)
    names = [words.plain(check.name) for check in deciding if check.outcome is audit.verdict]
    which = f" ({'; '.join(names)})" if names else ""
    if audit.verdict is Outcome.FAIL:
        return f"Failed: {what} did not pass {len(names)} of the {len(deciding)} checks that decide{which}."
    return f"Could not be decided: nothing here shows that {what} has forgotten, and nothing that it has not{which}."


def judged(check: Check) -> bool:
    """Tell whether a check compares its figure with anything: some only inform, and always come out well."""
    return check.gating or check.bound is not None or check.outcome is not Outcome.PASS


def _subject(sheet: Sheet) -> str:
    number = sheet.independent.candidate if sheet.independent is not None else sheet.version
    if number is None:
        return f"the checkpoint for {words.plain(sheet.model)}"
    return f"version {number} of {words.plain(sheet.model)}"


def _passed(audit: Audit, what: str) -> str:
    match audit.guarantee:
        case "exact":
            return (
                f"Passed: {what} holds nothing of what was to be forgotten, by the way it was made, and is as useful "
                "as it must be."
            )
        case "certified":
            return f"Passed: {what} is within the distance of retraining that its method accounts for."
        case _:
            return (
                f"Passed: in nothing that was measured does {what} differ from models that never learned what was to "
                "be forgotten."
            )


def checks(audit: Audit, *, gating: bool) -> list[Check]:
    """Return the checks that decide, or those that only inform."""
    return [check for check in audit.checks if check.gating is gating]


def policy(sheet: Sheet) -> list[Setting]:
    """Return every field of the policy that applied, in words."""
    if sheet.policy is None:
        return []
    described = {name: field.description or "" for name, field in AuditPolicy.model_fields.items()}
    return [Setting(name, setting(value), described.get(name, "")) for name, value in sheet.policy.items()]


def configuration(values: Mapping[str, object]) -> list[Setting]:
    """Return a method's configuration, in words."""
    return [Setting(name, setting(value)) for name, value in values.items()]


def setting(value: object) -> str:
    """Return a setting's value as a word.

    >>> setting(True), setting(None), setting(0.05), setting({"a": [1]})
    ('yes', 'none', '0.05', "{'a': [1]}")
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    return words.number(value) if isinstance(value, float) else words.plain(str(value))


def power(sheet: Sheet) -> str | None:
    """Say whether the audit could have noticed that nothing was forgotten."""
    audit = sheet.audit
    if audit is None or audit.power is not None:
        return None
    if audit.guarantee == "exact":
        return (
            "Not measured: the method is exact, so that the verdict rests on how the version was made and not on "
            "whether somebody could tell."
        )
    return "Not measured: there were no retrained references to tell it by. Without power, no measurement can pass."


def references(sheet: Sheet) -> str:
    """Say which models the version was compared with, in a sentence."""
    audit = sheet.audit
    if audit is None or not any(reference.count for reference in audit.references):
        exact = audit is not None and audit.guarantee == "exact"
        why = "; the guarantee of the method needs none" if exact else ""
        return f"No model was retrained to compare with{why}."
    kinds = (
        f"{words.counted(reference.count, 'model', 'models')} ({words.plain(reference.kind)})"
        for reference in audit.references
        if reference.count
    )
    return (
        f"Compared with {' and '.join(kinds)}, trained by the same recipe without what was to be forgotten."
    )


def distributions_missing(audit: Audit) -> str | None:
    """Say why there are no histograms, or none of retrained models."""
    models = {histogram.model for histogram in audit.distributions}
    if not models:
        return "No score distributions were recorded: the verdict does not rest on scores."
    if RETRAINED not in models:
        return "No retrained models stand in these pictures: none were needed, or none were to be had."
    return None


def blind_spots(sheet: Sheet) -> Iterator[str]:
    """Yield what the audit does not say, in plain words."""
    audit = sheet.audit
    if audit is None:
        return
    yield (
        "A measurement finds what it looks for. An attack that nobody has thought of, or that has more time, models or "
        "knowledge of the data, may find traces that are not found here."
    )
    yield (
        "It speaks of this checkpoint alone: not of earlier versions, of copies and backups elsewhere, or of answers "
        "that were given before."
    )
    yield (
        "What was to be forgotten may resemble what was kept. What a model knows from records that it may keep, it "
        "still knows, and so would one that never learned the others."
    )
    yield from _of_guarantee(sheet, audit)
    if not any(check.name.lower().startswith(DEEP) for check in audit.checks):
        yield (
            "No deep audit was run: how surely the few easiest records can be recognised (true positives at 1 % and "
            "0.1 % false positives) was not measured."
        )
    yield (
        "Means and histograms are over sets of records. Nothing is shown of single records, for their own protection; a "
        "few that are still remembered can hide in a mean."
    )


def _of_guarantee(sheet: Sheet, audit: Audit) -> Iterator[str]:
    if audit.guarantee == "exact":
        yield (
            "The guarantee is exact because of how the version was made. It is as good as the code that made it, and as "
            "the list of what was to be forgotten."
        )
        return
    if not any(histogram.model == RETRAINED for histogram in audit.distributions):
        yield "There was no retrained model to compare with, so nobody knows what a model without the records does."
    else:
        yield (
            "Retrained models are of the same recipe and of few seeds. Records that were never seen must be of the same "
            "kind as the forgotten ones: if they differ otherwise, the membership figures measure that difference."
        )
    if audit.power is not None and audit.power.unnoticed is not None:
        yield (
            f"Less than {words.number(100 * audit.power.unnoticed)} % of the original's distance from retraining could be left "
            "without being noticed."
        )
    if sheet.policy is not None and isinstance(rate := sheet.policy.get("false_alarm_rate"), float):
        yield (
            f"The bounds are drawn so that a genuinely retrained model fails in no more than {words.number(100 * rate)} % "
            "of audits: a failure can be a false alarm."
        )
