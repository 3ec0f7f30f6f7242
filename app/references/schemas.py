"""References as clients ask for and read them."""

import datetime as dt
import uuid
from typing import Self

from pydantic import BaseModel, Field

from app.request_body import RequestBody
from app.tables import TrainedReference
from app.tables.trained_reference import ReferencePurpose
from unlearning.targets import Target


class ReferencesCreate(RequestBody):
    """What shall be trained ahead of time."""

    target: Target | None = Field(
        None,
        description=(
            "Train models that never saw this, as an audit of its forgetting needs them; null: the shadow models of "
            "the deep audit, which serve many targets."
        ),
    )


class ReferenceRead(BaseModel):
    """One trained reference."""

    id: uuid.UUID
    purpose: ReferencePurpose
    version: int = Field(description="The model's version whose recipe it repeats.")
    snapshot: int = Field(description="The snapshot whose records it was trained on, or a part of them.")
    data: str = Field(description="SHA-256 of the training records it learned, in hexadecimal.")
    recipe: str = Field(description="SHA-256 of how it was trained, in hexadecimal.")
    seed: int
    size: int = Field(description="Bytes.")
    seconds: float = Field(description="Time that its training took.")
    job: uuid.UUID = Field(description="The job that trained it.")
    created_at: dt.datetime
    superseded_at: dt.datetime | None = Field(
        description="Since when it may hold what was forgotten: no audit uses it any more, and it will be destroyed."
    )
    destroyed_at: dt.datetime | None

    @classmethod
    def of(cls, row: TrainedReference) -> Self:
        """Show a row of the table. Where its files are is nobody's business."""
        return cls(
            id=row.id,
            purpose=row.purpose,
            version=row.version,
            snapshot=row.snapshot,
            data=row.data_digest,
            recipe=row.recipe_digest,
            seed=row.seed,
            size=row.size,
            seconds=row.seconds,
            job=row.job_id,
            created_at=row.created_at,
            superseded_at=row.superseded_at,
            destroyed_at=row.destroyed_at,
        )


class ReferencePage(BaseModel):
    """One page of references."""

    items: list[ReferenceRead] = Field(description="Newest first.")
    next: str | None = Field(description="Path of the next page, also in the `Link` header; null at the end.")
