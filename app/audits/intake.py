"""A checkpoint that was made elsewhere and comes to be judged: checked, stored, then recorded with its audit."""

from starlette.responses import Response

from app.audits import repository, service
from app.audits.schemas import AuditUpload
from app.call import Call
from app.deposits import deposited
from app.intake import Parcel
from app.registry.registration import check_delivery
from app.tables.base import new_id
from app.trust.scopes import Scope


def judge_upload(call: Call, parcel: Parcel[AuditUpload]) -> Response:
    """Queue the audit of an uploaded or imported checkpoint.

    Raises:
        ServiceError: The audit is refused (`service.prepare`), or the checkpoint does not fit the model.
        CheckpointError: The checkpoint is refused.
    """
    wanted = parcel.metadata
    with call.read(Scope.MODELS_WRITE) as work:
        if (first := call.first_answer(work)) is not None:
            return first
        original = service.prepare(work, wanted)
    _, manifest = check_delivery(parcel.directory, original.model.family, original.dataset, original.model)
    audit_id = new_id()
    location = f"audits/{audit_id}"
    with deposited(call.runtime, parcel.directory, location, repository.checkpoint_recorded):
        deposit = service.Deposit(audit_id, location, manifest)
        return call.post(Scope.MODELS_WRITE, lambda work: service.queue(work, wanted, deposit))
