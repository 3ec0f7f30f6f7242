"""`/v1/policies`: what is demanded of audits; and `/v1/models/{name}/policy`, what that comes to for a model."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from app.call import CallDep
from app.errors import problem_responses
from app.paging import Limit, link_next
from app.policies import repository, service
from app.policies.schemas import (
    EffectivePolicyRead,
    PolicyChangeRead,
    PolicyHistory,
    PolicyRead,
    PolicyWrite,
)
from app.request_body import StorableText
from app.trust.scopes import Scope

router = APIRouter(tags=["policies"])

FamilyName = Annotated[StorableText, Path(max_length=32, description="The family.")]
ModelName = Annotated[StorableText, Path(max_length=128, description="The model's name.")]
Before = Annotated[int | None, Query(ge=1, le=2**63 - 1, description="Only changes before this one.")]
WRITTEN = problem_responses(400, 404, 413)


@router.get("/policies/families/{family}", summary="Show a family's policy")
def read_family(call: CallDep, family: FamilyName) -> PolicyRead:
    """Answer what is set for a family's models."""
    with call.read(Scope.MODELS_READ) as work:
        return service.read(work, service.family_subject(family))


@router.put(
    "/policies/families/{family}",
    summary="Set a family's policy",
    response_model=PolicyRead,
    responses=WRITTEN,
)
def write_family(call: CallDep, family: FamilyName, body: PolicyWrite) -> Response:
    """Set a policy for every model of a family; what is left out is inherited."""
    return call.post(Scope.ADMIN, lambda work: service.change(work, service.family_subject(family), body))


@router.delete("/policies/families/{family}", summary="Remove a family's policy", response_model=PolicyRead)
def remove_family(call: CallDep, family: FamilyName) -> Response:
    """Let a family inherit everything; that there was a policy stays in its history."""
    return call.post(Scope.ADMIN, lambda work: service.change(work, service.family_subject(family), None))


@router.get("/policies/families/{family}/changes", summary="List the changes of a family's policy")
def list_family_changes(
    call: CallDep,
    request: Request,
    response: Response,
    family: FamilyName,
    limit: Limit = 50,
    before: Before = None,
) -> PolicyHistory:
    """Answer who changed the policy, when, and to what, newest first."""
    with call.read(Scope.MODELS_READ) as work:
        subject = service.family_subject(family)
        page = repository.changes_of(work.session, **subject.columns, before=before, limit=limit)
    return _history(request, response, page)


@router.get("/policies/models/{name}", summary="Show a model's policy", responses=problem_responses(404))
def read_model(call: CallDep, name: ModelName) -> PolicyRead:
    """Answer what is set for one model."""
    with call.read(Scope.MODELS_READ) as work:
        return service.read(work, service.model_subject(work, name))


@router.put(
    "/policies/models/{name}", summary="Set a model's policy", response_model=PolicyRead, responses=WRITTEN
)
def write_model(call: CallDep, name: ModelName, body: PolicyWrite) -> Response:
    """Set a policy for one model; what is left out is inherited from its family."""
    return call.post(Scope.ADMIN, lambda work: service.change(work, service.model_subject(work, name), body))


@router.delete(
    "/policies/models/{name}",
    summary="Remove a model's policy",
    response_model=PolicyRead,
    responses=problem_responses(404),
)
def remove_model(call: CallDep, name: ModelName) -> Response:
    """Let a model inherit everything; that there was a policy stays in its history."""
    return call.post(Scope.ADMIN, lambda work: service.change(work, service.model_subject(work, name), None))


@router.get(
    "/policies/models/{name}/changes",
    summary="List the changes of a model's policy",
    responses=problem_responses(404),
)
def list_model_changes(
    call: CallDep,
    request: Request,
    response: Response,
    name: ModelName,
    limit: Limit = 50,
    before: Before = None,
) -> PolicyHistory:
    """Answer who changed the policy, when, and to what, newest first."""
    with call.read(Scope.MODELS_READ) as work:
        subject = service.model_subject(work, name)
        page = repository.changes_of(work.session, **subject.columns, before=before, limit=limit)
    return _history(request, response, page)


@router.get(
    "/models/{name}/policy", summary="Show the policy in effect for a model", responses=problem_responses(404)
)
def read_effective(call: CallDep, name: ModelName) -> EffectivePolicyRead:
    """Answer every field of the policy that a model's audits keep to, and where it comes from."""
    with call.read(Scope.MODELS_READ) as work:
        return service.effective(work, name)


def _history(
    request: Request, response: Response, page: tuple[repository.Changes, int | None]
) -> PolicyHistory:
    changes, following = page
    return PolicyHistory(
        items=[PolicyChangeRead.of(change, changed_by) for change, changed_by in changes],
        next=link_next(request, response, before=following) if following is not None else None,
    )
