"""Torch-free: which methods are tried for a job, in which order, and why; and why not the others.

Every method of the family ends up either as a rung of the ladder or as ruled out, with a reason a person
understands. Planning is deterministic: it depends on its input and on the installed catalog alone.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from models.families import get_family
from unlearning.catalog import get_method, methods
from unlearning.catalog.spec import CostInput, Guarantee, MethodSpec, Way
from unlearning.errors import ConfigurationError, PlanningError

AUTO = "auto"
FLOPS_PER_SECOND = 2e10
"""Throughput that turns operations into estimated seconds.

One core of a current server CPU sustains 50 to 90 GFLOP/s on large float64 matrix products and far less on the
small ones, reads and audits around them; 20 GFLOP/s keeps the estimate on the long side. It is for telling
milliseconds from hours: only the ratio of two estimates on one machine means anything more.
"""

STRENGTH = {Guarantee.EXACT: 0, Guarantee.CERTIFIED: 1, Guarantee.EMPIRICAL: 2}
"""Strongest guarantee first."""

GuaranteeAsked = Literal["any", "exact", "certified", "empirical"]
"""What a client asks for: the weakest guarantee that will do. `any` and `empirical` ask for the same."""

Need = Literal["forget_data", "retained_data", "statistics"]


class PlanInput(BaseModel):
    """What a plan is made from: sizes and kinds, never ids."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: str
    architecture: dict[str, Any] = Field(
        description="What the family says of the model (`FamilyRuntime.describe`): `architecture` and sizes."
    )
    target_kind: str
    records: int = Field(ge=0, description="Training records before forgetting.")
    forget: int = Field(ge=0, description="Records to forget.")
    guarantee: GuaranteeAsked = "any"
    method: str = Field(AUTO, description="A method's name, or `auto`.")
    parameters: dict[str, Any] = Field({}, description="The named method's parameters; none with `auto`.")
    available: frozenset[Need] = Field(
        frozenset({"forget_data", "retained_data", "statistics"}),
        description="What the service still has of the model's past.",
    )
    allow_retrain: bool = Field(
        True, description="Whether the model's policy lets its last resort, retraining, be published."
    )

    @field_validator("architecture")
    @classmethod
    def _named(cls, value: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(value.get("architecture"), str):
            raise ValueError("must name the architecture under 'architecture'")  # noqa: TRY004 - pydantic reports ValueError
        return value


class Rung(BaseModel):
    """One method of a ladder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str = Field(description="The method's name.")
    guarantee: Guarantee = Field(description="What the method promises of its result.")
    parameters: dict[str, Any] = Field(description="Its configuration, defaults filled in.")
    reason: str = Field(description="Why it stands where it stands, in a sentence.")
    estimated_flops: float = Field(ge=0, description="Floating-point operations, an estimate.")
    estimated_seconds: float = Field(ge=0, description="Time on one CPU core, a rough estimate.")


class RuledOut(BaseModel):
    """One method that will not be tried."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str = Field(description="The method's name.")
    reason: str = Field(description="Why it will not be tried, in a sentence.")


class Plan(BaseModel):
    """The ladder: rungs are tried in order until one passes its audit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rungs: tuple[Rung, ...] = Field(min_length=1)
    ruled_out: tuple[RuledOut, ...]


@dataclass(frozen=True)
class _Candidate:
    """A method that fits."""

    spec: MethodSpec
    flops: float
    way: Way | None


def make_plan(asked: PlanInput) -> Plan:
    """Choose and order the methods for one job.

    A named method is the only rung. Otherwise every method that fits and whose guarantee is strong enough is a
    rung, the cheapest first, the stronger one first where two cost the same, and the family's fallback last.

    Raises:
        UnknownFamilyError: There is no such family.
        UnknownMethodError: The named method is not in the catalog.
        ConfigurationError: The parameters do not fit the named method, or were given with `auto`.
        PlanningError: No method fits; the message says of each why not.
    """
    get_family(asked.family)
    named = _named_method(asked)
    fitting: list[_Candidate] = []
    ruled_out: list[RuledOut] = []
    for spec in methods(asked.family):
        obstacle = _obstacle(spec, asked)
        estimate = _estimate(spec, asked) if obstacle is None else None
        if obstacle is None and named is not None and spec.name != named.name:
            obstacle = f"The method {named.name} was named instead."
        if obstacle is None and estimate is None:
            obstacle = "Its cost estimate fails on what is known of this model, so its place cannot be told."
        if obstacle is not None or estimate is None:
            ruled_out.append(RuledOut(method=spec.name, reason=str(obstacle)))
        else:
            fitting.append(_Candidate(spec, *estimate))
    if not fitting:
        raise PlanningError(_nothing_fits(asked, ruled_out))
    fitting.sort(key=_place)
    rungs = tuple(_rung(candidate, asked, place, of=len(fitting)) for place, candidate in enumerate(fitting))
    return Plan(rungs=rungs, ruled_out=tuple(ruled_out))


def estimated_retraining_seconds(asked: PlanInput) -> float | None:
    """Estimate how long it takes to train one reference for the job's audits; None where nobody knows.

    A reference is what the family's last resort would make, by another seed.
    """
    estimates = [_estimate(spec, asked) for spec in methods(asked.family) if spec.fallback]
    known = [estimate[0] for estimate in estimates if estimate is not None]
    return min(known) / FLOPS_PER_SECOND if known else None


def _named_method(asked: PlanInput) -> MethodSpec | None:
    """Return the method that was asked for by name, its parameters checked, or None for `auto`."""
    if asked.method != AUTO:
        spec = get_method(asked.family, asked.method)
        spec.configure(asked.parameters)
        return spec
    if asked.parameters:
        raise ConfigurationError(
            "Parameters belong to one method: name it in 'method', or leave 'parameters' empty."
        )
    return None


def _place(candidate: _Candidate) -> tuple[bool, float, int, str]:
    """Sort by work, then strength; the name makes the order total."""
    spec = candidate.spec
    return spec.fallback, candidate.flops, STRENGTH[spec.guarantee], spec.name


def _obstacle(spec: MethodSpec, asked: PlanInput) -> str | None:
    """Say why a method cannot serve what is asked, or return None where it can."""
    if asked.target_kind not in spec.targets:
        return f"It forgets {_listed(spec.targets)}, not {asked.target_kind}."
    architecture = asked.architecture["architecture"]
    if spec.architectures is not None and architecture not in spec.architectures:
        return f"It works on the architectures {_listed(spec.architectures)}; this model is {architecture}."
    if (
        asked.guarantee in {"exact", "certified"}
        and STRENGTH[spec.guarantee] > STRENGTH[Guarantee(asked.guarantee)]
    ):
        return f"Its guarantee is {spec.guarantee.value}, weaker than the {asked.guarantee} one that was asked for."
    if spec.fallback and not asked.allow_retrain:
        return "It retrains the model, which the model's policy does not allow."
    missing = spec.needs - asked.available
    if missing:
        return f"It needs {_listed(missing)}, which the service does not have for this model."
    return None


def _estimate(spec: MethodSpec, asked: PlanInput) -> tuple[float, Way | None] | None:
    """Return the work and the way of going about it, or None where the sizes that are known do not tell."""
    # Held-out records of a target cost nothing to forget, and may outnumber the training records.
    forget = min(asked.forget, asked.records)
    sizes = CostInput(records=asked.records, forget=forget, architecture=asked.architecture)
    try:
        flops = float(spec.cost(sizes))
        way = None if spec.way is None else spec.way(sizes)
    except Exception:  # noqa: BLE001 - a plug-in's function on sizes it may not know: no estimate, said as such
        return None
    return (flops, way) if math.isfinite(flops) and flops >= 0 else None


def _rung(candidate: _Candidate, asked: PlanInput, place: int, *, of: int) -> Rung:
    spec, flops, way = candidate.spec, candidate.flops, candidate.way
    if asked.method != AUTO:
        why = "It was named in the request; no other method will be tried."
    elif of == 1:
        why = f"The only method that fits; its guarantee is {spec.guarantee.value}."
    elif spec.fallback:
        why = f"Last resort, should no other method pass its audit; its guarantee is {spec.guarantee.value}."
    elif place == 0:
        why = f"The least estimated work of the methods that fit; its guarantee is {spec.guarantee.value}."
    else:
        why = f"Next by estimated work, should those before it not pass; its guarantee is {spec.guarantee.value}."
    parameters = asked.parameters
    if way is not None and not way.parameters.keys() & parameters.keys():
        why, parameters = f"{why} {way.reason}", {**way.parameters, **parameters}
    return Rung(
        method=spec.name,
        guarantee=spec.guarantee,
        parameters=spec.configure(parameters).model_dump(mode="json"),
        reason=why,
        estimated_flops=flops,
        estimated_seconds=flops / FLOPS_PER_SECOND,
    )


def _nothing_fits(asked: PlanInput, ruled_out: list[RuledOut]) -> str:
    if asked.method != AUTO:
        own = next(entry.reason for entry in ruled_out if entry.method == asked.method)
        return f"The method {asked.method} cannot serve this request: {own}"
    reasons = " ".join(f"{entry.method}: {entry.reason}" for entry in ruled_out)
    return f"No installed method can serve this request. {reasons}".rstrip()


def _listed(names: frozenset[str] | frozenset[Need]) -> str:
    return ", ".join(name.replace("_", " ") for name in sorted(names))
