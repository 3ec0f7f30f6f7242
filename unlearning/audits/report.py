"""Torch-free: what an audit says, as the service stores and shows it."""

import enum

from pydantic import BaseModel, ConfigDict, Field


class Outcome(enum.StrEnum):
    """How one check, or a whole audit, came out."""

    PASS = "pass"  # noqa: S105 - a verdict, not a secret
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Check(_Part):
    """One measurement with its anchor."""

    name: str = Field(description="Field's term for the measurement.")
    formula: str = Field(description="What was computed.")
    group: str = Field(
        "",
        description="What it tells of: certificate, utility, forgetting, membership, distance, relearning, privacy.",
    )
    value: float | None = Field(description="Of the new version; null where it could not be measured.")
    reference: float | None = Field(None, description="The same of the reference.")
    reference_name: str | None = Field(
        None, description="What the reference is: retrained, original, random …"
    )
    anchors: dict[str, float] = Field(
        {}, description="The same of other models, by name: original, random, and whatever else was measured."
    )
    interval: tuple[float, float] | None = Field(None, description="95 % interval of the value.")
    n: int | None = Field(None, description="How many items it was measured on.")
    bound: str | None = Field(None, description="What the value must satisfy.")
    limits: tuple[float | None, float | None] | None = Field(
        None, description="The bound in figures, least and greatest; null where that side is free."
    )
    gating: bool = Field(description="Whether the verdict depends on it.")
    outcome: Outcome
    reason: str = Field(description="Why it came out so, in a sentence.")


class Histogram(_Part):
    """How one score is distributed over one set of records, as one model sees them: counts, never single records."""

    score: str = Field(
        description="What is counted: margin, the logit-scaled confidence in the right class; log-odds of an edge; or pair score."
    )
    records: str = Field(description="Which records: forgotten, retained or never seen.")
    model: str = Field(description="Whose scores: original, candidate, retrained or random.")
    edges: tuple[float, ...] = Field(
        description="Ends of the bins, ascending; the same for every histogram of a score. What lies beyond the "
        "outer ones is counted in the outer bins."
    )
    counts: tuple[int, ...] = Field(description="Records in each bin; one fewer than edges.")
    n: int = Field(description="Sum of the counts; the retrained references are pooled.")


class Curve(_Part):
    """One figure over the steps of a method's work."""

    name: str = Field(description="What was measured, such as forget loss, with its stage.")
    steps: tuple[int, ...]
    values: tuple[float, ...]


class ReferenceSet(_Part):
    """The models that the candidate was compared with."""

    kind: str = Field(description="retrained or shadow.")
    count: int
    seeds: tuple[int, ...] = ()
    seconds: float = Field(0.0, description="What training all of them took, now or for an earlier audit.")
    cached: int = Field(0, description="How many of them were there before.")
    note: str = Field(
        "", description="Why there are none, or fewer than the policy asks for; empty otherwise."
    )


class Stratum(_Part):
    """The forgotten records that the original had memorised most, or least."""

    name: str = Field(description="Which records, such as: the quarter that was memorised most.")
    n: int
    memorisation: tuple[float, float] = Field(
        description="Least and greatest memorisation in it: the original's probability of the record's class less the "
        "retrained models' mean."
    )
    original: float = Field(description="Mean score, as the original sees them.")
    candidate: float = Field(description="Mean score, as the new version sees them.")
    retrained: float = Field(description="Mean score, as the retrained references see them.")
    limits: tuple[float, float] | None = Field(
        None, description="Where a retrained model's mean score lies, by the references' spread."
    )


class Power(_Part):
    """Whether the audit could have noticed that nothing was forgotten: the original, audited as if it were new."""

    detects: bool
    caught_by: tuple[str, ...] = Field(description="Gating checks that the original fails.")
    unnoticed: float | None = Field(
        None,
        description=(
            "Share of the original's distance from retraining from which on it is noticed, in twentieths; less may be "
            "left unnoticed. Null where even the original would not be."
        ),
    )
    reason: str = Field(description="In a sentence, with the figures.")


class Audit(_Part):
    """All measurements of one candidate and the verdict on it. Figures over records, never ids or single records."""

    method: str
    guarantee: str
    verdict: Outcome
    summary: str = Field(description="The verdict in a sentence.")
    checks: tuple[Check, ...]
    seconds: float = Field(description="Wall time of the audit.")
    unlearning_seconds: float = Field(description="Wall time of the method.")
    power: Power | None = Field(None, description="Null where no retrained reference was needed or there.")
    references: tuple[ReferenceSet, ...] = ()
    distributions: tuple[Histogram, ...] = ()
    strata: tuple[Stratum, ...] = ()
    curves: tuple[Curve, ...] = Field((), description="What the method reported while it worked.")
