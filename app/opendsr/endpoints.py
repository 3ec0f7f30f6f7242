"""`/opendsr`: erasure requests in the words of OpenDSR 2.0. There only where settings name a domain.

Every answer about a request carries the processor's domain and a signature of the body.
"""

import base64
import uuid
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel

from app.call import CallDep
from app.errors import problem_responses
from app.opendsr import service
from app.opendsr.schemas import (
    Cancelled,
    Discovery,
    OpenDsrRequestCreate,
    Received,
    StatusRead,
    SupportedIdentity,
)
from app.opendsr.service import SUBJECT_IDENTITY
from app.opendsr.signature import ProcessorSigner
from app.trust.scopes import Scope

CERTIFICATE_PATH = "/opendsr/certificate.pem"


async def _raw(request: Request) -> bytes:
    return await request.body()


def make_router(signer: ProcessorSigner) -> APIRouter:
    """Return the façade's endpoints, whose answers `signer` signs."""
    router = APIRouter(prefix="/opendsr", tags=["OpenDSR"])
    refused = problem_responses(400, 401, 403, 404, 413, 422, 429)

    def signed(document: BaseModel, status: int) -> Response:
        body = document.model_dump_json().encode()
        return Response(body, status, headers=signer.headers(body), media_type="application/json")

    @router.post(
        "/requests",
        summary="Submit an OpenDSR request",
        status_code=201,
        response_model=Received,
        responses=refused,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": OpenDsrRequestCreate.model_json_schema()}},
            }
        },
    )
    def submit(call: CallDep, body: Annotated[bytes, Depends(_raw)]) -> Response:
        """Take an erasure: one forget request for each model that the extension for this domain names."""
        call.authorize(Scope.REQUESTS_WRITE)
        asked, encoded = service.parse(body), base64.b64encode(body).decode()
        # No idempotency record: it would keep the answer, which holds the person's identity.
        received = call.change(
            Scope.REQUESTS_WRITE, lambda work: service.submit(work, asked, signer.domain, encoded)
        )
        return signed(received, 201)

    @router.get(
        "/requests/{request_id}",
        summary="Show an OpenDSR request",
        response_model=StatusRead,
        responses=refused,
    )
    def show(call: CallDep, request_id: uuid.UUID) -> Response:
        """Answer how a request stands, in OpenDSR's four states."""
        with call.read(Scope.REQUESTS_READ) as work:
            return signed(service.show(work, request_id), 200)

    @router.delete(
        "/requests/{request_id}",
        summary="Cancel an OpenDSR request",
        status_code=202,
        response_model=Cancelled,
        responses=refused,
    )
    def cancel(call: CallDep, request_id: uuid.UUID) -> Response:
        """Cancel a request that is pending."""
        return signed(call.change(Scope.REQUESTS_WRITE, lambda work: service.cancel(work, request_id)), 202)

    @router.get("/discovery", summary="What this processor supports", response_model=Discovery)
    def discovery() -> Response:
        """Answer which identities and types of request are supported, and where the certificate is."""
        document = Discovery(
            supported_identities=[SupportedIdentity(identity_type=SUBJECT_IDENTITY, identity_format="raw")],
            supported_subject_request_types=["erasure"],
            processor_certificate=f"https://{signer.domain}{CERTIFICATE_PATH}",
        )
        return signed(document, 200)

    @router.get(
        CERTIFICATE_PATH.removeprefix("/opendsr"),
        summary="The certificate that signs answers and callbacks",
        response_class=Response,
        responses={200: {"content": {"application/x-pem-file": {}}}},
    )
    def certificate() -> Response:
        """Answer the certificate, PEM encoded."""
        return Response(signer.certificate, media_type="application/x-pem-file")

    return router
