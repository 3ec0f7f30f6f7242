"""Decisions about plans. Nothing here is stored: a plan is made anew when its job runs."""

from dataclasses import dataclass
from typing import cast

from app.call import Answer, Work
from app.forget_requests.errors import UnknownModelError
from app.forget_requests.repository import model_state
from app.forget_requests.validation import check_target, describe_version
from app.plans.schemas import HypotheticalCreate, PlanCreate, PlanRead, ReferenceEstimate
from app.policies.effective import effective_policy, family_policy
from app.references.repository import count_retrained, count_shadows, mean_seconds
from app.tables import Dataset, Model, Snapshot
from app.trust.scopes import Scope
from models.architectures import describe_config
from models.families import get_family
from models.id_index import IdIndex
from unlearning.audits.policy import AuditPolicy
from unlearning.catalog.spec import Guarantee
from unlearning.planner import Plan, PlanInput, estimated_retraining_seconds, make_plan
from unlearning.targets import AnyTarget, count_records, resolve_target


@dataclass(frozen=True)
class Asked:
    """A question, and what is known of the model that it is about."""

    plan: PlanInput
    policy: AuditPolicy
    model: Model | None = None
    learned: IdIndex | None = None
    target: AnyTarget | None = None


def explain(work: Work, body: PlanCreate) -> Answer:
    """Answer by which methods, in which order, a request would be served, and what their audits would cost.

    Raises:
        ServiceError: The model is unknown, or cannot be asked to forget the target.
        PlanningError: No method fits; the message says of each why not.
    """
    if body.hypothetical is not None:
        asked = _about_hypothetical(work, body, body.hypothetical)
    else:
        asked = _about_model(work, body)
    plan = make_plan(asked.plan)
    answer = PlanRead(
        model=body.model,
        records=asked.plan.records,
        forget=asked.plan.forget,
        rungs=list(plan.rungs),
        ruled_out=list(plan.ruled_out),
        references=_estimate(work, asked, plan),
    )
    return Answer(answer, 200)


def _about_hypothetical(work: Work, body: PlanCreate, model: HypotheticalCreate) -> Asked:
    get_family(model.family)
    policy = family_policy(work.session, work.runtime.settings, model.family).policy
    plan = PlanInput(
        family=model.family,
        architecture=dict(describe_config(model.family, model.config)),
        target_kind=model.target_kind,
        records=model.records,
        forget=model.forget,
        guarantee=body.guarantee,
        method=body.method,
        parameters=body.parameters,
        allow_retrain=policy.allow_retrain,
    )
    return Asked(plan, policy)


def _about_model(work: Work, body: PlanCreate) -> Asked:
    name, target = cast("str", body.model), cast("AnyTarget", body.target)  # the schema has seen to it
    # Asked before looking: a key limited to some models cannot find out which others there are.
    work.caller.require(Scope.MODELS_READ, name)
    state = model_state(work.session, name)
    if state is None:
        raise UnknownModelError(name)
    check_target(work.runtime, state, target)
    learned = work.runtime.indexes.get(state.learned_location)
    model = work.session.get_one(Model, state.model_id)
    policy = effective_policy(work.session, work.runtime.settings, model).policy
    plan = PlanInput(
        family=state.family,
        architecture=dict(describe_version(work.runtime.storage, state.family, state.version_location)),
        target_kind=target.kind,
        records=state.records,
        forget=count_records(state.family, learned, target),
        guarantee=body.guarantee,
        method=body.method,
        parameters=body.parameters,
        allow_retrain=policy.allow_retrain,
    )
    return Asked(plan, policy, model, learned, target)


def _estimate(work: Work, asked: Asked, plan: Plan) -> ReferenceEstimate:
    """Say how many references the plan's audits need, how many there are, and what the others cost."""
    policy = asked.policy
    needed = policy.reference != "never" and any(rung.guarantee is not Guarantee.EXACT for rung in plan.rungs)
    retrained = policy.retrained_seeds if needed else 0
    shadows = policy.shadow_models // 2 * 2 if needed and policy.deep else 0
    cached, cached_shadows = _cached(work, asked) if needed else (0, 0)
    measured = mean_seconds(work.session, asked.model.id) if asked.model is not None else None
    each = measured if measured is not None else estimated_retraining_seconds(asked.plan)
    missing = max(0, retrained - cached) + max(0, shadows - cached_shadows)
    total = each * missing if each is not None else None
    affordable = policy.reference != "within_budget" or (
        total is not None and total <= policy.reference_seconds
    )
    return ReferenceEstimate(
        needed=needed,
        retrained=retrained,
        cached=min(cached, retrained),
        shadow_models=shadows,
        cached_shadow_models=min(cached_shadows, shadows),
        seconds_each=each,
        measured=measured is not None,
        estimated_seconds=total,
        within_budget=affordable if total is not None else None,
    )


def _cached(work: Work, asked: Asked) -> tuple[int, int]:
    """Count the retrained references and the shadow models that a job would find."""
    if asked.model is None or asked.learned is None or asked.target is None:
        return 0, 0
    dataset = work.session.get_one(Dataset, asked.model.dataset_id)
    # A target that only the head holds is none of the model's: nothing was learned of it.
    forgotten = resolve_target(
        dataset.family, asked.learned, asked.target, also=_head(work, dataset)
    ).record_ids
    return (
        count_retrained(work.session, asked.model, dataset, forgotten),
        count_shadows(work.session, asked.model),
    )


def _head(work: Work, dataset: Dataset) -> IdIndex:
    head = work.session.get_one(Snapshot, (dataset.id, dataset.head_snapshot))
    return work.runtime.indexes.get(head.location)
