"""`/v1/methods`: which methods are installed, and how each is configured."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.call import CallDep
from app.errors import ServiceError, problem_responses
from app.methods.schemas import MethodList, MethodRead
from app.trust.scopes import Scope
from models.families import get_family
from unlearning.catalog import get_method, methods
from unlearning.errors import UnknownMethodError

router = APIRouter(prefix="/methods", tags=["methods"])


class MethodNotFoundError(ServiceError):
    """The catalog has no such method."""

    status, slug, title = 404, "method-not-found", "Method not found"


@router.get("", summary="List the installed methods")
def list_methods(
    call: CallDep, family: Annotated[str | None, Query(description="Only methods of this family.")] = None
) -> MethodList:
    """Answer every method of the catalog, or those of one family."""
    with call.read(Scope.MODELS_READ):
        if family is not None:
            get_family(family)
        return MethodList(items=[MethodRead.of(spec) for spec in methods(family)])


@router.get("/{family}/{name}", summary="Show one method", responses=problem_responses(404))
def read_method(call: CallDep, family: str, name: str) -> MethodRead:
    """Answer one method with the JSON Schema of its parameters."""
    with call.read(Scope.MODELS_READ):
        try:
            return MethodRead.of(get_method(family, name))
        except UnknownMethodError as error:
            raise MethodNotFoundError(str(error)) from error
