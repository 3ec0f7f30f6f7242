"""One delivery: a signed POST to an address that was judged first. Redirects are not followed."""

import datetime as dt
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpcore
from standardwebhooks import Webhook

from app.opendsr.signature import ProcessorSigner
from app.webhooks.address import AddressRefusedError, Network, resolve

TIMEOUT_SECONDS = 15.0
GONE = 410


@dataclass(frozen=True)
class Parcel:
    """A message on its way."""

    message_id: str
    url: str
    payload: Mapping[str, Any]
    secrets: Sequence[bytes] = ()
    """Each signs it, as Standard Webhooks wants: two during a rotation."""
    signer: ProcessorSigner | None = None
    """Signs it instead, as OpenDSR wants."""

    def headers(self, body: str, now: dt.datetime) -> list[tuple[str, str]]:
        """Return the headers that vouch for the message."""
        if self.signer is not None:
            return list(self.signer.headers(body.encode()).items())
        signatures = (Webhook(secret).sign(self.message_id, now, body) for secret in self.secrets)
        return [
            ("webhook-id", self.message_id),
            ("webhook-timestamp", str(int(now.timestamp()))),
            ("webhook-signature", " ".join(signatures)),
        ]


@dataclass(frozen=True)
class Delivery:
    """What came of one attempt."""

    status: int | None
    """The receiver's HTTP status, None where there was no answer."""
    error: str | None
    """Why it does not count as delivered, in a sentence; None where it does."""

    @property
    def gone(self) -> bool:
        """Whether the receiver never wants to hear of it again."""
        return self.status == GONE


def send(parcel: Parcel, now: dt.datetime, allowed: Sequence[Network]) -> Delivery:
    """Try to deliver a message once.

    Args:
        parcel: What, and to whom.
        now: The time that is signed with it: a receiver refuses a copy that comes much later.
        allowed: Networks that may be called although they are not public.
    """
    body = json.dumps(parcel.payload, ensure_ascii=False, separators=(",", ":"))
    headers = [
        ("Content-Type", "application/json"),
        ("User-Agent", "Expunge-Webhooks"),
        *parcel.headers(body, now),
    ]
    timeout = dict.fromkeys(("connect", "read", "write", "pool"), TIMEOUT_SECONDS)
    try:
        with (
            httpcore.ConnectionPool(network_backend=_JudgingBackend(allowed)) as pool,
            pool.stream(
                "POST", parcel.url, headers=headers, content=body.encode(), extensions={"timeout": timeout}
            ) as response,
        ):
            status = response.status  # the body is never read: nothing in it matters, and it may have no end
    except AddressRefusedError as refusal:
        return Delivery(None, refusal.detail)
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
        return Delivery(None, f"It could not be reached ({type(error).__name__}).")
    return Delivery(status, _refusal(status))


def _refusal(status: int) -> str | None:
    match status // 100:
        case 2:
            return None
        case 3:
            return f"It answered {status}: redirects are not followed."
        case _:
            return f"It answered {status}."


class _JudgingBackend(httpcore.SyncBackend):
    """Connects to the address that was judged, whatever the name may stand for a moment later.

    TLS still checks the certificate against the name: that is done a layer above.
    """

    def __init__(self, allowed: Sequence[Network]) -> None:
        self._allowed = allowed

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        address = str(resolve(host, port, self._allowed))
        return super().connect_tcp(address, port, timeout, local_address, socket_options)
