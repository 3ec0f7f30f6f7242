"""The database schema: one table class per file, all registered on `Base.metadata`."""

from app.tables.api_key import ApiKey
from app.tables.audit_run import AuditRun
from app.tables.base import Base
from app.tables.certificate import Certificate, CertificateFrame, ModelSignature
from app.tables.dataset import Dataset
from app.tables.event import Event
from app.tables.forget_request import ForgetRequest
from app.tables.idempotency_record import IdempotencyRecord
from app.tables.job import Job
from app.tables.log_leaf import LogLeaf
from app.tables.log_subtree import LogSubtree
from app.tables.model import Model
from app.tables.opendsr_request import OpenDsrRequest
from app.tables.policy_change import PolicyChange
from app.tables.signing_key import SigningKey
from app.tables.snapshot import Snapshot
from app.tables.suppression import Suppression
from app.tables.sweep import Sweep
from app.tables.swept_location import SweptLocation
from app.tables.trained_reference import TrainedReference
from app.tables.version import Version
from app.tables.webhook_endpoint import WebhookEndpoint
from app.tables.webhook_message import WebhookMessage

__all__ = [
    "ApiKey",
    "AuditRun",
    "Base",
    "Certificate",
    "CertificateFrame",
    "Dataset",
    "Event",
    "ForgetRequest",
    "IdempotencyRecord",
    "Job",
    "LogLeaf",
    "LogSubtree",
    "Model",
    "ModelSignature",
    "OpenDsrRequest",
    "PolicyChange",
    "SigningKey",
    "Snapshot",
    "Suppression",
    "Sweep",
    "SweptLocation",
    "TrainedReference",
    "Version",
    "WebhookEndpoint",
    "WebhookMessage",
]
