"""`/v1/datasets`: the training records behind models."""

import uuid
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from app.call import CallDep
from app.datasets import registration, repository, service
from app.datasets.schemas import (
    DatasetCreate,
    DatasetDetail,
    DatasetList,
    DatasetRead,
    SnapshotCreate,
    SnapshotList,
    SnapshotRead,
)
from app.errors import problem_responses
from app.intake import process, receive, request_body
from app.paging import CursorDep, Limit, link_next
from app.trust.scopes import Scope
from models.families import get_family

router = APIRouter(prefix="/datasets", tags=["datasets"])

MAX_NUMBER = 2**31 - 1
"""Numbers are 32-bit in every database."""

SnapshotNumber = Annotated[int, Path(ge=1, le=MAX_NUMBER, description="Number within the dataset.")]
Before = Annotated[int | None, Query(ge=1, le=MAX_NUMBER, description="Only numbers below this one.")]


@router.post(
    "",
    summary="Register a dataset",
    status_code=201,
    response_model=DatasetRead,
    responses=problem_responses(400, 409, 413, 415),
    openapi_extra=request_body(DatasetCreate),
)
async def create_dataset(call: CallDep, request: Request) -> Response:
    """Upload training records, or have the service import them; they become snapshot 1."""
    async with receive(call, request, DatasetCreate, Scope.MODELS_WRITE) as parcel:
        return await process(call, parcel, registration.create_dataset)


@router.get("", summary="List datasets")
def list_datasets(
    call: CallDep,
    request: Request,
    response: Response,
    cursor: CursorDep,
    limit: Limit = 50,
    family: Annotated[str | None, Query(description="Only datasets of this family.")] = None,
) -> DatasetList:
    """Answer one page of datasets, newest first."""
    with call.read(Scope.MODELS_READ) as work:
        if family is not None:
            get_family(family)
        page = repository.list_datasets(work.session, family, cursor, limit)
        heads = repository.heads_of(work.session, page.rows)
        return DatasetList(
            items=[DatasetRead.of(dataset, heads[dataset.id]) for dataset in page.rows],
            next=link_next(request, response, cursor=page.next.encode()) if page.next else None,
        )


@router.get("/{dataset_id}", summary="Show a dataset", responses=problem_responses(404))
def read_dataset(call: CallDep, dataset_id: uuid.UUID) -> DatasetDetail:
    """Answer a dataset's schema, counts, head and recent snapshots."""
    with call.read(Scope.MODELS_READ) as work:
        return service.describe(work, dataset_id)


@router.post(
    "/{dataset_id}/snapshots",
    summary="Add or replace records",
    status_code=201,
    response_model=SnapshotRead,
    responses=problem_responses(400, 404, 409, 413, 415),
    openapi_extra=request_body(SnapshotCreate),
)
async def create_snapshot(call: CallDep, request: Request, dataset_id: uuid.UUID) -> Response:
    """Make a new head of the dataset; records that were forgotten are refused."""
    async with receive(call, request, SnapshotCreate, Scope.MODELS_WRITE) as parcel:
        return await process(call, parcel, partial(registration.add_snapshot, dataset_id=dataset_id))


@router.get("/{dataset_id}/snapshots", summary="List snapshots", responses=problem_responses(404))
def list_snapshots(
    call: CallDep,
    request: Request,
    response: Response,
    dataset_id: uuid.UUID,
    limit: Limit = 50,
    before: Before = None,
) -> SnapshotList:
    """Answer one page of a dataset's history, newest first."""
    with call.read(Scope.MODELS_READ) as work:
        dataset = repository.get_dataset(work.session, dataset_id)
        rows, following = repository.list_snapshots(work.session, dataset, before=before, limit=limit)
        return SnapshotList(
            items=[SnapshotRead.of(row) for row in rows],
            next=link_next(request, response, before=following) if following else None,
        )


@router.get("/{dataset_id}/snapshots/{number}", summary="Show a snapshot", responses=problem_responses(404))
def read_snapshot(call: CallDep, dataset_id: uuid.UUID, number: SnapshotNumber) -> SnapshotRead:
    """Answer one snapshot."""
    with call.read(Scope.MODELS_READ) as work:
        dataset = repository.get_dataset(work.session, dataset_id)
        return SnapshotRead.of(repository.get_snapshot(work.session, dataset, number))
