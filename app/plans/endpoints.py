"""`/v1/plans`: a dry run that changes nothing."""

from fastapi import APIRouter
from starlette.responses import Response

from app.call import CallDep
from app.errors import problem_responses
from app.plans.schemas import PlanCreate, PlanRead
from app.plans.service import explain
from app.trust.scopes import Scope

router = APIRouter(prefix="/plans", tags=["plans"])


@router.post(
    "",
    summary="Explain how a request would be served",
    response_model=PlanRead,
    responses=problem_responses(400, 413),
)
def create_plan(call: CallDep, body: PlanCreate) -> Response:
    """Answer the methods that would be tried, in their order, with reasons and estimated costs."""
    return call.post(Scope.MODELS_READ, lambda work: explain(work, body))
