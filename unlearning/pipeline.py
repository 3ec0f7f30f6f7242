"""From a plan to an audited model: each rung unlearns, is audited and judged; the first one that passes wins.

    model ──► rung 1: method ──► candidate ──► suite ──► verdict ── pass ──────────────► chosen
                                                           │
                                                           ├─ fail ──────────────────► rung 2 …
                                                           ├─ inconclusive, escalate ─► rung 2 …
                                                           ├─ inconclusive, accept ───► chosen
                                                           └─ inconclusive, review ───► nobody; a person looks

A policy bounds the ladder: how many methods are tried and for how long before the last resort, and whether that
last resort, retraining, may be published. Rungs that it leaves out are named with the reason. Models retrained to be
compared with are trained once for all rungs, when the first audit asks for them; none of them is ever a candidate.

Nothing here knows a family: the runtime names it, the catalog finds the method, `audits.suites` the suite.
Methods receive the data (and the forget set) without its audit half; the suite receives all of it. A family's
data object therefore offers `for_methods()`, the view without the audit half, and `missing(record_ids)`.

Every run fails closed. A method or a measurement that raises has not forgotten anything: the failure is
recorded with its rung, and the next rung starts from the parent loaded anew, since a method that breaks its
contract may have changed the one it was given. Only running out of memory is
no rung's failure; it reaches the caller as `MemoryError`, because the next rung would meet it too. All is
deterministic in the seed. Where no rung passes, the best candidate is handed over for a person to decide on.

Calling it in a notebook:

    runtime = get_family("classifier").runtime()
    model, data = runtime.load_model(checkpoint), runtime.load_data(snapshot)
    result = run_plan(
        runtime, model, data, forget, plan,
        reload=lambda: runtime.load_model(checkpoint),
        policy=AuditPolicy(), references=InMemoryReferences(), seed=0, progress=print,
    )
    result.model      # what passed, or None
    result.rungs      # what was tried, with every measurement
"""

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from models.contracts import FamilyRuntime, ForgetSet, Progress
from models.errors import ModelsError
from unlearning.audits.policy import AuditPolicy
from unlearning.audits.references import ReferenceStore, ReferenceTrainer
from unlearning.audits.report import Audit, Curve, Outcome
from unlearning.audits.suites import Case, get_suite
from unlearning.catalog import get_method, methods
from unlearning.catalog.spec import MethodSpec, load_object
from unlearning.errors import MethodError, PlanningError, UnlearningError
from unlearning.planner import Plan, Rung

logger = logging.getLogger(__name__)

MOST_CURVE_POINTS = 400
"""Points kept of each training curve; beyond them every other one is dropped."""


@dataclass(frozen=True)
class RungResult:
    """What came of one rung: an audit, or the reason why there is none."""

    method: str
    guarantee: str
    configuration: dict[str, Any]
    """The method's parameters, defaults filled in."""
    audit: Audit | None
    failure: str | None
    """Why the method or its audit could not be carried out, in a sentence."""
    seconds: float
    """Wall time of method and audit together."""
    began_at: float | None = None
    """When it began, in seconds since 1970; for traces."""


@dataclass(frozen=True)
class SkippedRung:
    """A rung that the policy did not let begin."""

    method: str
    reason: str


@dataclass(frozen=True)
class PipelineResult:
    """The outcome of a plan. `model` and `chosen` are None together: nothing may be published then."""

    model: Any | None
    chosen: RungResult | None
    rungs: tuple[RungResult, ...]
    """Every rung that was tried, in order."""
    best: tuple[Any, RungResult] | None = None
    """Where none was chosen: the audited candidate for a person to decide on, with its rung. The first
    inconclusive one, or else the first that failed; None if no rung got as far as an audit."""
    skipped: tuple[SkippedRung, ...] = ()
    """Rungs that the policy left out, in order."""


@dataclass(frozen=True)
class _Job:
    """What all rungs of a plan share."""

    runtime: FamilyRuntime
    family: str
    data: Any
    forget: ForgetSet
    policy: AuditPolicy
    references: ReferenceTrainer
    seed: int
    progress: Progress


def run_plan(
    runtime: FamilyRuntime,
    model: Any,
    data: Any,
    forget: ForgetSet,
    plan: Plan,
    *,
    reload: Callable[[], Any],
    policy: AuditPolicy,
    references: ReferenceStore,
    seed: int,
    progress: Progress,
) -> PipelineResult:
    """Try the rungs of a plan until one may be published.

    Args:
        runtime: The model's family.
        model: The parent. No method of the catalog changes it; a plug-in that does spoils nothing but its own rung.
        data: All its records, those to forget and those held out included.
        forget: What to forget.
        plan: The ladder.
        reload: Loads the parent anew, for every rung after the first, and for the recipe of the references.
        policy: What audits demand, how far the ladder may go, and what follows when an audit cannot decide.
        references: Where models retrained for comparison are looked for and kept.
        seed: Every rung starts from it anew; no reference has it.
        progress: Receives each method's and each audit's steps, stages prefixed with the method's name.

    Raises:
        MemoryError: A method or its audit ran out of memory.
    """
    started = time.perf_counter()
    family = str(runtime.describe(model)["family"])
    # References follow the recipe of a parent that no method has had in its hands.
    trainer = ReferenceTrainer(
        runtime, reload, data, forget, policy, references, seed=seed, progress=progress
    )
    job = _Job(runtime, family, data, forget, policy, trainer, seed, progress)
    tried: list[RungResult] = []
    skipped: list[SkippedRung] = []
    best: tuple[Any, RungResult] | None = None
    for rung in plan.rungs:
        obstacle = _obstacle(job, rung, len(tried), time.perf_counter() - started)
        if obstacle is not None:
            skipped.append(SkippedRung(rung.method, obstacle))
            continue
        # A rung that finds a damaged parent has failed like any other, and says so.
        candidate, result = _try_rung(job, rung, reload if tried else lambda: model)
        tried.append(result)
        verdict = result.audit.verdict if result.audit else Outcome.FAIL
        if verdict is Outcome.PASS or (
            verdict is Outcome.INCONCLUSIVE and policy.on_inconclusive == "accept"
        ):
            return PipelineResult(candidate, result, tuple(tried), skipped=tuple(skipped))
        if result.audit is not None and (best is None or _is_better(result, best[1])):
            best = candidate, result
        if verdict is Outcome.INCONCLUSIVE and policy.on_inconclusive == "review":
            break
    return PipelineResult(None, None, tuple(tried), best, tuple(skipped))


def _obstacle(job: _Job, rung: Rung, tried: int, seconds: float) -> str | None:
    """Say why the policy does not let a rung begin, or return None where it does.

    Retraining is bound by its own permission alone: a budget for approximations that are cheaper than it must not
    take away the one rung that is sure to forget.
    """
    policy = job.policy
    if is_last_resort(job.family, rung.method):
        return None if policy.allow_retrain else "The policy does not allow retraining."
    if policy.max_rungs is not None and tried >= policy.max_rungs:
        return f"The policy allows {policy.max_rungs} methods before the last resort."
    if policy.max_seconds is not None and seconds > policy.max_seconds:
        return f"The policy's {policy.max_seconds:g} s for the ladder were spent."
    return None


def is_last_resort(family: str, method: str) -> bool:
    """Tell whether a method is its family's fallback; one that is not installed is not."""
    return any(spec.fallback for spec in methods(family) if spec.name == method)


def run_update(
    runtime: FamilyRuntime, model: Any, data: Any, target_data: Any, *, seed: int, progress: Progress
) -> tuple[Any, RungResult]:
    """Bring a model from the records it has learned to others: new ones are learned, missing ones unlearned.

    The method is the one made for the model's architecture, or else the family's fallback. Its result is audited as
    a forgetting is, against the records it shall have learned. An audit that could not decide lets it pass: an
    update claims nothing that training on those records would not.

    Args:
        runtime: The model's family.
        model: The parent; it is never changed.
        data: The records that the parent has learned.
        target_data: The records that the result shall have learned.
        seed: Of everything random.
        progress: Receives the method's and the audit's steps.

    Raises:
        PlanningError: No installed method can update this architecture.
        MethodError: The method could not do it, or its result failed the audit.
    """
    described = runtime.describe(model)
    family, architecture = str(described["family"]), str(described["architecture"])
    spec = _update_method(family, architecture)
    config = spec.configure({})
    started = time.perf_counter()
    updated = load_object(str(spec.update))(
        model, data, target_data, config, generator=torch.Generator().manual_seed(seed), progress=progress
    )
    audit = get_suite(family)(
        Case(
            parent=model,
            candidate=updated,
            data=target_data,
            forget=ForgetSet((), ()),
            method=spec,
            parameters=config.model_dump(),
            seed=seed,
            unlearning_seconds=time.perf_counter() - started,
            progress=progress,
        )
    )
    if audit.verdict is Outcome.FAIL:
        raise MethodError(f"The update did not pass its audit. {audit.summary}")
    seconds = time.perf_counter() - started
    return updated, RungResult(
        spec.name, str(spec.guarantee), config.model_dump(mode="json"), audit, None, seconds
    )


def _update_method(family: str, architecture: str) -> MethodSpec:
    fitting = [
        spec
        for spec in methods(family)
        if spec.update is not None and (spec.architectures is None or architecture in spec.architectures)
    ]
    if not fitting:
        raise PlanningError(f"No installed method can update a model of the architecture {architecture}.")
    return min(fitting, key=lambda spec: (spec.fallback, spec.name))


def _is_better(result: RungResult, than: RungResult) -> bool:
    """Tell whether an audit that could not decide stands against one that found against its candidate."""
    verdicts = [rung.audit.verdict for rung in (result, than) if rung.audit is not None]
    return verdicts == [Outcome.INCONCLUSIVE, Outcome.FAIL]


def _try_rung(job: _Job, rung: Rung, load: Callable[[], Any]) -> tuple[Any, RungResult]:
    """Return the candidate and what is known of it; without an audit the candidate is None."""
    began_at, started = time.time(), time.perf_counter()
    candidate, audit, failure = None, None, None
    try:
        candidate, audit = _unlearn_and_audit(job, rung, load())
    except Exception as error:
        # A method or a plug-in may raise anything; whatever it is, this rung has failed and says so.
        if _is_out_of_memory(error):
            raise MemoryError(str(error)) from error
        # A stranger's message may name records, and both the log and the result outlive the request.
        logger.warning("the rung %s/%s failed with %s", job.family, rung.method, type(error).__name__)
        known = isinstance(error, UnlearningError | ModelsError)
        failure = str(error) if known else f"It raised {type(error).__name__}."
    result = RungResult(
        method=rung.method,
        guarantee=str(rung.guarantee),
        configuration=dict(rung.parameters),
        audit=audit,
        failure=failure,
        seconds=time.perf_counter() - started,
        began_at=began_at,
    )
    return candidate, result


def _unlearn_and_audit(job: _Job, rung: Rung, model: Any) -> tuple[Any, Audit]:
    data, forget = job.data, job.forget
    recorder = _Recorder(rung.method, job.progress)
    if missing := len(data.missing(forget.record_ids)):
        raise MethodError(f"{missing} of the records to forget are not in the data.")
    visible = data.for_methods()
    hidden = set(visible.missing(forget.record_ids))
    spec = get_method(job.family, rung.method)
    config = spec.configure(rung.parameters)
    suite = get_suite(job.family)
    started = time.perf_counter()
    candidate = spec.load()(
        model,
        visible,
        ForgetSet(tuple(name for name in forget.record_ids if name not in hidden), forget.classes),
        config,
        generator=torch.Generator().manual_seed(job.seed),
        progress=recorder,
    )
    unlearning_seconds = time.perf_counter() - started
    audit = suite(
        Case(
            parent=model,
            candidate=candidate,
            data=data,
            forget=forget,
            method=spec,
            parameters=config.model_dump(),
            seed=job.seed,
            unlearning_seconds=unlearning_seconds,
            progress=recorder,
            policy=job.policy,
            references=job.references,
            curves=recorder.curves(),
        )
    )
    return candidate, audit


class _Recorder:
    """Passes a rung's progress on, and keeps the figures in it as curves.

    A curve that grows beyond `MOST_CURVE_POINTS` loses every other point and from then on takes half as many, so
    that no method, however talkative, makes an audit large.
    """

    def __init__(self, method: str, progress: Progress) -> None:
        self._method = method
        self._progress = progress
        self._points: dict[str, list[tuple[int, float]]] = {}
        self._seen: dict[str, int] = {}
        self._every: dict[str, int] = {}

    def __call__(self, stage: str, step: int, of: int, figures: Mapping[str, float] | None = None, /) -> None:
        """Pass one step on."""
        for figure, value in (figures or {}).items():
            # What is not finite cannot stand in JSON; a diverging loss shows in the curve that breaks off.
            if math.isfinite(value):
                self._note(f"{stage}: {figure}", step, float(value))
        self._progress(f"{self._method}: {stage}", step, of)

    def _note(self, name: str, step: int, value: float) -> None:
        points = self._points.setdefault(name, [])
        every = self._every.setdefault(name, 1)
        if self._seen.setdefault(name, 0) % every == 0:
            points.append((step, value))
        self._seen[name] += 1
        if len(points) > MOST_CURVE_POINTS:
            self._points[name] = points[::2]
            self._every[name] = 2 * every

    def curves(self) -> tuple[Curve, ...]:
        """Return what was kept."""
        return tuple(
            Curve(
                name=name, steps=tuple(step for step, _ in points), values=tuple(value for _, value in points)
            )
            for name, points in self._points.items()
        )


def _is_out_of_memory(error: Exception) -> bool:
    """Tell whether memory ran out; torch's CPU allocator says so only in the words of a RuntimeError."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )
