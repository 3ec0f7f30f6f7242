"""What clients send and receive about models and versions."""

import datetime as dt
import uuid
from typing import Any, Self

from pydantic import BaseModel, Field

from app.datasets.schemas import NAME_PATTERN
from app.intake import Delivery
from app.tables import Model, Version
from app.tables.version import VersionOrigin, VersionState
from unlearning.audits.report import Audit, Check, Outcome

MAX_NUMBER = 2**31 - 1
"""Numbers are 32-bit in every database."""

SNAPSHOT_DESCRIPTION = (
    "Snapshot whose training records the checkpoint has learned; null: the dataset's newest."
)


class ModelCreate(Delivery):
    """A new model; its files become version 1."""

    name: str = Field(pattern=NAME_PATTERN, description="Unique name.", examples=["digits"])
    family: str = Field(max_length=32, description="Family of the model.", examples=["classifier"])
    dataset: uuid.UUID = Field(description="Id of the dataset that the model was trained on.")
    snapshot: int | None = Field(None, ge=1, le=MAX_NUMBER, description=SNAPSHOT_DESCRIPTION)


class VersionCreate(Delivery):
    """A new version of a model that was trained elsewhere."""

    snapshot: int | None = Field(None, ge=1, le=MAX_NUMBER, description=SNAPSHOT_DESCRIPTION)


class ModelRead(BaseModel):
    """A model."""

    id: uuid.UUID
    name: str
    family: str
    architecture: str = Field(description="Architecture of all its versions.")
    dataset: uuid.UUID = Field(description="Id of the dataset behind it.")
    latest_version: int = Field(description="Number of its newest version.")
    created_at: dt.datetime

    @classmethod
    def of(cls, model: Model) -> Self:
        """Describe a row."""
        return cls(
            id=model.id,
            name=model.name,
            family=model.family,
            architecture=model.architecture,
            dataset=model.dataset_id,
            latest_version=model.latest_version,
            created_at=model.created_at,
        )


class ModelList(BaseModel):
    """One page of models."""

    items: list[ModelRead] = Field(description="Newest first.")
    next: str | None = Field(description="Path of the next page; null on the last.")


class VersionFile(BaseModel):
    """One file of a version."""

    path: str = Field(description="Path below `…/files/`.")
    sha256: str = Field(description="SHA-256 in hexadecimal.")
    size: int = Field(description="Bytes.")


class VersionRead(BaseModel):
    """An immutable checkpoint of a model."""

    model: str = Field(description="Name of its model.")
    number: int = Field(description="Number within its model.")
    parent: int | None = Field(description="Version it was made from; null for one trained elsewhere.")
    origin: VersionOrigin = Field(description="What made it.")
    state: VersionState = Field(description="Whether it may be used.")
    dataset: uuid.UUID = Field(description="Id of the dataset it learned from.")
    snapshot: int = Field(description="Snapshot whose training records it has learned.")
    job: uuid.UUID | None = Field(description="Id of the job that made it.")
    method: str | None = Field(description="Method that made it.")
    configuration: dict[str, Any] | None = Field(description="That method's configuration.")
    verdict: Outcome | None = Field(description="Its audit's verdict; null where there was no audit.")
    metrics: list[Check] = Field(description="Its audit's measurements; none where there was no audit.")
    digest: str = Field(description="SHA-256 of its manifest, in hexadecimal.")
    size: int = Field(description="Bytes of its files together.")
    files: list[VersionFile] = Field(description="Its files.")
    created_at: dt.datetime
    quarantined_at: dt.datetime | None
    destroy_after: dt.datetime | None = Field(description="When a quarantined version's files are destroyed.")
    destroyed_at: dt.datetime | None

    @classmethod
    def of(cls, model: Model, version: Version) -> Self:
        """Describe a row."""
        audit = Audit.model_validate(version.audit) if version.audit is not None else None
        return cls(
            model=model.name,
            number=version.number,
            parent=version.parent,
            origin=version.origin,
            state=version.state,
            dataset=version.dataset_id,
            snapshot=version.snapshot,
            job=version.job_id,
            method=version.method,
            configuration=version.configuration,
            verdict=audit.verdict if audit else None,
            metrics=list(audit.checks) if audit else [],
            digest=version.digest,
            size=version.size,
            files=[VersionFile(**file) for file in version.manifest["files"]],
            created_at=version.created_at,
            quarantined_at=version.quarantined_at,
            destroy_after=version.destroy_after,
            destroyed_at=version.destroyed_at,
        )


class VersionList(BaseModel):
    """One page of a model's versions."""

    items: list[VersionRead] = Field(description="Newest first.")
    next: str | None = Field(description="Path of the next page; null on the last.")
