"""Destroying a version on demand: checked in one transaction, done outside any, recorded in another."""

from starlette.responses import Response

from app.call import Answer, Call, Work
from app.registry import repository
from app.registry.schemas import VersionRead
from app.registry.service import readable_model
from app.retention.versions import Doomed, bury, doom
from app.tables import Model
from app.trust.scopes import Scope


def destroy_version(call: Call, name: str, number: int, reason: str) -> Response:
    """Delete a quarantined version's files now and answer its tombstone.

    Raises:
        ServiceError: There is no such version, it may be used, a job reads it, or it was destroyed already.
        OSError: Its files could not all be deleted; it stays in quarantine, and can be tried again.
    """
    with call.read(Scope.ADMIN) as work:
        if (first := call.first_answer(work)) is not None:
            return first
    doomed = call.change(Scope.ADMIN, lambda work: _doom(work, name, number))
    call.runtime.storage.delete(doomed.location)
    return call.post(Scope.ADMIN, lambda work: _bury(work, doomed, reason))


def _doom(work: Work, name: str, number: int) -> Doomed:
    model = readable_model(work, name, Scope.ADMIN)
    repository.get_version(work.session, model, number)
    return doom(work.session, model.id, number)


def _bury(work: Work, doomed: Doomed, reason: str) -> Answer:
    version = bury(work.session, doomed, reason, work.now)
    model = work.session.get_one(Model, doomed.model_id)
    return Answer(VersionRead.of(model, version), 200)
