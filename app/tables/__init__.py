"""The database schema: one table class per file, all registered on `Base.metadata`."""

from app.tables.api_key import ApiKey
from app.tables.base import Base
from app.tables.dataset import Dataset
from app.tables.event import Event
from app.tables.forget_request import ForgetRequest
from app.tables.idempotency_record import IdempotencyRecord
from app.tables.job import Job
from app.tables.model import Model
from app.tables.snapshot import Snapshot
from app.tables.suppression import Suppression
from app.tables.version import Version

__all__ = [
    "ApiKey",
    "Base",
    "Dataset",
    "Event",
    "ForgetRequest",
    "IdempotencyRecord",
    "Job",
    "Model",
    "Snapshot",
    "Suppression",
    "Version",
]
