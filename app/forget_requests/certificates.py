"""The certificate of a completed request, with the proof that the transparency log has it."""

import uuid

from app.call import Work
from app.errors import ServiceError
from app.forget_requests.service import get_visible
from app.log.service import sign_tree_head
from app.tables import Certificate, CertificateFrame, ForgetRequest, LogLeaf
from app.trust.certificates.bundle import Bundle
from app.trust.certificates.statement import fill
from app.trust.log.tree import inclusion_proof, log_size


class CertificateNotFoundError(ServiceError):
    """The request has no certificate."""

    status, slug, title = 404, "no-certificate", "No certificate"

    def __init__(self, request: ForgetRequest) -> None:
        super().__init__(
            f"Forget request {request.id} is {request.status.value}; a certificate is made when a request is "
            "completed, and there is none for requests that were completed before certificates were made."
        )


def certificate(work: Work, request_id: uuid.UUID) -> bytes:
    """Return the certificate's file, proved to be in the log as it is now.

    Raises:
        ForgetRequestNotFoundError: There is no such request, or the key is limited to other models.
        CertificateNotFoundError: It was not completed.
        SigningKeyError: There is no key to sign the tree head with.
        LogRewrittenError: The log is not what was signed before.
    """
    session = work.session
    request, _ = get_visible(work, request_id)
    found = session.get(Certificate, request_id)
    if found is None:
        raise CertificateNotFoundError(request)
    frame = session.get_one(CertificateFrame, (found.model_id, found.version))
    size = log_size(session)
    return Bundle(
        payload=fill(frame.text, found.own),
        key_id=found.key_id,
        signature=found.signature,
        leaf=session.get_one(LogLeaf, found.leaf).payload,
        index=found.leaf,
        size=size,
        proof=tuple(inclusion_proof(session, found.leaf, size)),
        tree_head=sign_tree_head(work, size),
    ).to_bytes()
