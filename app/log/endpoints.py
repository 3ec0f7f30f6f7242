"""`/v1/log`: entries, signed tree heads, proofs and the keys that verify them."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from app.call import CallDep
from app.errors import problem_responses
from app.log import service
from app.log.schemas import ConsistencyProofRead, EntryList, InclusionProofRead, KeysRead
from app.trust.scopes import Scope

router = APIRouter(prefix="/log", tags=["transparency log"])

MAX_SIZE = (1 << 53) - 1
"""Every reader of JSON has whole numbers up to here."""
Size = Annotated[int, Query(ge=0, le=MAX_SIZE)]
UNSIGNED = problem_responses(503)


@router.get(
    "/checkpoint",
    summary="Download the signed tree head",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **UNSIGNED},
)
def tree_head(call: CallDep) -> Response:
    """Answer the log's size and root as a signed note (C2SP `tlog-checkpoint`). Keep it: it binds the service."""
    with call.read(Scope.REQUESTS_READ) as work:
        note = service.tree_head(work)
    return Response(note, media_type="text/plain", headers={"Cache-Control": "no-cache"})


@router.get("/entries", summary="List entries of the log")
def entries(
    call: CallDep,
    start: Annotated[int, Query(ge=0, le=MAX_SIZE, description="The first entry's index.")] = 0,
    end: Annotated[
        int | None, Query(ge=0, le=MAX_SIZE, description="The index after the last entry's.")
    ] = None,
) -> EntryList:
    """Answer entries in their order, at most 1,000 at once: certificates' digests and versions' states."""
    with call.read(Scope.REQUESTS_READ) as work:
        return service.entries(work, start, end)


@router.get("/proofs/inclusion", summary="Prove that the log has an entry")
def prove_inclusion(call: CallDep, index: Size, size: Size) -> InclusionProofRead:
    """Answer the audit path of entry `index` in the tree of the first `size` entries."""
    with call.read(Scope.REQUESTS_READ) as work:
        return service.prove_inclusion(work, index, size)


@router.get("/proofs/consistency", summary="Prove that the log only grew")
def prove_consistency(call: CallDep, first: Size, second: Size) -> ConsistencyProofRead:
    """Answer the proof that the tree of `second` entries begins with the tree of `first` entries."""
    with call.read(Scope.REQUESTS_READ) as work:
        return service.prove_consistency(work, first, second)


@router.get("/key", summary="Show the public keys", responses=UNSIGNED)
def keys(call: CallDep) -> KeysRead:
    """Answer the keys that verify tree heads, certificates and model signatures, old ones included."""
    with call.read(Scope.REQUESTS_READ) as work:
        return service.keys(work)
