"""`/v1/models/{name}/versions/{version}/destroy`: the end of a version before its time."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from app.call import CallDep
from app.errors import problem_responses
from app.registry.endpoints import Name
from app.registry.schemas import MAX_NUMBER, VersionRead
from app.retention import service
from app.retention.schemas import DestroyCreate

router = APIRouter(prefix="/models", tags=["models"])

Number = Annotated[int, Path(ge=1, le=MAX_NUMBER, description="The version's number.")]


@router.post(
    "/{name}/versions/{version}/destroy",
    summary="Destroy a quarantined version now",
    response_model=VersionRead,
    responses=problem_responses(400, 404, 409, 410, 413),
)
def destroy_version(call: CallDep, name: Name, version: Number, body: DestroyCreate) -> Response:
    """Delete the files of a version that still holds what was forgotten; its row stays, with its digests."""
    return service.destroy_version(call, name, version, body.reason)
