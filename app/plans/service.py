"""Decisions about plans. Nothing here is stored: a plan is made anew when its job runs."""

from typing import cast

from app.call import Answer, Work
from app.forget_requests.errors import UnknownModelError
from app.forget_requests.repository import model_state
from app.forget_requests.validation import check_target, describe_version
from app.plans.schemas import HypotheticalCreate, PlanCreate, PlanRead
from app.trust.scopes import Scope
from models.architectures import describe_config
from models.families import get_family
from unlearning.planner import PlanInput, make_plan
from unlearning.targets import AnyTarget, count_records


def explain(work: Work, body: PlanCreate) -> Answer:
    """Answer by which methods, in which order, a request would be served.

    Raises:
        ServiceError: The model is unknown, or cannot be asked to forget the target.
        PlanningError: No method fits; the message says of each why not.
    """
    if body.hypothetical is not None:
        asked = _about_hypothetical(body, body.hypothetical)
    else:
        asked = _about_model(work, body)
    plan = make_plan(asked)
    answer = PlanRead(
        model=body.model,
        records=asked.records,
        forget=asked.forget,
        rungs=list(plan.rungs),
        ruled_out=list(plan.ruled_out),
    )
    return Answer(answer, 200)


def _about_hypothetical(body: PlanCreate, model: HypotheticalCreate) -> PlanInput:
    get_family(model.family)
    return PlanInput(
        family=model.family,
        architecture=dict(describe_config(model.family, model.config)),
        target_kind=model.target_kind,
        records=model.records,
        forget=model.forget,
        guarantee=body.guarantee,
        method=body.method,
        parameters=body.parameters,
    )


def _about_model(work: Work, body: PlanCreate) -> PlanInput:
    name, target = cast("str", body.model), cast("AnyTarget", body.target)  # the schema has seen to it
    # Asked before looking: a key limited to some models cannot find out which others there are.
    work.caller.require(Scope.MODELS_READ, name)
    state = model_state(work.session, name)
    if state is None:
        raise UnknownModelError(name)
    check_target(work.runtime, state, target)
    learned = work.runtime.indexes.get(state.learned_location)
    return PlanInput(
        family=state.family,
        architecture=dict(describe_version(work.runtime.storage, state.family, state.version_location)),
        target_kind=target.kind,
        records=state.records,
        forget=count_records(learned, target),
        guarantee=body.guarantee,
        method=body.method,
        parameters=body.parameters,
    )
