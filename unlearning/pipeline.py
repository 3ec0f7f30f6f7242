"""From a plan to an audited model: each rung unlearns, is audited and judged; the first one that passes wins.

    model ──► rung 1: method ──► candidate ──► suite ──► verdict ── pass ──────────────► chosen
                                                           │
                                                           ├─ fail ──────────────────► rung 2 …
                                                           ├─ inconclusive, escalate ─► rung 2 …
                                                           ├─ inconclusive, accept ───► chosen
                                                           └─ inconclusive, review ───► nobody; a person looks

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
        reload=lambda: runtime.load_model(checkpoint), on_inconclusive="escalate", seed=0, progress=print,
    )
    result.model      # what passed, or None
    result.rungs      # what was tried, with every measurement
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from models.contracts import FamilyRuntime, ForgetSet, Progress
from unlearning.audits.report import Audit, Outcome
from unlearning.audits.suites import Case, get_suite
from unlearning.catalog import get_method, methods
from unlearning.catalog.spec import MethodSpec, load_object
from unlearning.errors import MethodError, PlanningError, UnlearningError
from unlearning.planner import Plan, Rung

logger = logging.getLogger(__name__)

OnInconclusive = Literal["escalate", "review", "accept"]
"""What an audit that could not decide leads to: the next rung, a person, or publication."""


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


def run_plan(
    runtime: FamilyRuntime,
    model: Any,
    data: Any,
    forget: ForgetSet,
    plan: Plan,
    *,
    reload: Callable[[], Any],
    on_inconclusive: OnInconclusive,
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
        reload: Loads the parent anew, for every rung after the first.
        on_inconclusive: What to do when an audit cannot decide.
        seed: Every rung starts from it anew.
        progress: Receives each method's and each audit's steps, stages prefixed with the method's name.

    Raises:
        MemoryError: A method or its audit ran out of memory.
    """
    family = str(runtime.describe(model)["family"])
    tried: list[RungResult] = []
    best: tuple[Any, RungResult] | None = None
    for place, rung in enumerate(plan.rungs):
        if place:
            model = reload()
        candidate, result = _try_rung(family, rung, model, data, forget, seed, progress)
        tried.append(result)
        verdict = result.audit.verdict if result.audit else Outcome.FAIL
        if verdict is Outcome.PASS or (verdict is Outcome.INCONCLUSIVE and on_inconclusive == "accept"):
            return PipelineResult(candidate, result, tuple(tried))
        if result.audit is not None and (best is None or _is_better(result, best[1])):
            best = candidate, result
        if verdict is Outcome.INCONCLUSIVE and on_inconclusive == "review":
            break
    return PipelineResult(None, None, tuple(tried), best)


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


def _try_rung(
    family: str, rung: Rung, model: Any, data: Any, forget: ForgetSet, seed: int, progress: Progress
) -> tuple[Any, RungResult]:
    """Return the candidate and what is known of it; without an audit the candidate is None."""
    started = time.perf_counter()
    candidate, audit, failure = None, None, None
    try:
        candidate, audit = _unlearn_and_audit(family, rung, model, data, forget, seed, progress)
    except Exception as error:
        # A method or a plug-in may raise anything; whatever it is, this rung has failed and says so.
        if _is_out_of_memory(error):
            raise MemoryError(str(error)) from error
        # A stranger's message may name records, and both the log and the result outlive the request.
        logger.warning("the rung %s/%s failed with %s", family, rung.method, type(error).__name__)
        failure = str(error) if isinstance(error, UnlearningError) else f"It raised {type(error).__name__}."
    result = RungResult(
        method=rung.method,
        guarantee=str(rung.guarantee),
        configuration=dict(rung.parameters),
        audit=audit,
        failure=failure,
        seconds=time.perf_counter() - started,
    )
    return candidate, result


def _unlearn_and_audit(
    family: str, rung: Rung, model: Any, data: Any, forget: ForgetSet, seed: int, progress: Progress
) -> tuple[Any, Audit]:
    def report(stage: str, step: int, of: int) -> None:
        progress(f"{rung.method}: {stage}", step, of)

    if missing := len(data.missing(forget.record_ids)):
        raise MethodError(f"{missing} of the records to forget are not in the data.")
    visible = data.for_methods()
    hidden = set(visible.missing(forget.record_ids))
    spec = get_method(family, rung.method)
    config = spec.configure(rung.parameters)
    suite = get_suite(family)
    started = time.perf_counter()
    candidate = spec.load()(
        model,
        visible,
        ForgetSet(tuple(name for name in forget.record_ids if name not in hidden), forget.classes),
        config,
        generator=torch.Generator().manual_seed(seed),
        progress=report,
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
            seed=seed,
            unlearning_seconds=unlearning_seconds,
            progress=report,
        )
    )
    return candidate, audit


def _is_out_of_memory(error: Exception) -> bool:
    """Tell whether memory ran out; torch's CPU allocator says so only in the words of a RuntimeError."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )
