"""The dispatcher: a thread of the worker that empties the outbox.

A message is claimed in one transaction, sent outside any, and settled in another. A dispatcher that dies in
between has only put the next attempt off: the receiver may then see a message twice, with the same `webhook-id`.
"""

import datetime as dt
import ipaddress
import logging
import secrets
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from sqlalchemy import select

from app.database import Database, database_now
from app.opendsr.signature import ProcessorSigner
from app.runtime import Runtime
from app.tables import WebhookEndpoint, WebhookMessage
from app.tables.webhook_endpoint import MessageFormat
from app.telemetry import metrics
from app.webhooks.repository import disable
from app.webhooks.sending import TIMEOUT_SECONDS, Delivery, Parcel, send
from app.worker.outages import OUTAGE

DELAYS = tuple(
    dt.timedelta(seconds=seconds)
    for seconds in (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
)
"""Waits before the second attempt, the third …: about three days in all, as Standard Webhooks advises."""

JITTER = 0.2
"""Share by which a wait is drawn longer or shorter, so that receivers that come back are not called all at once."""

CLAIM = dt.timedelta(seconds=4 * TIMEOUT_SECONDS)
"""After so long a claimed message whose dispatcher is gone is tried again: a delivery can take all its timeouts."""

BATCH = 32
SENDERS = 8
IDLE_SECONDS = 1.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Claimed:
    row_id: uuid.UUID
    endpoint_id: uuid.UUID
    attempt: int
    parcel: Parcel


class Dispatcher:
    """Sends what waits in the outbox until it is stopped."""

    def __init__(self, runtime: Runtime, stop: threading.Event) -> None:
        self._database = runtime.database
        self._allowed = [
            ipaddress.ip_network(network) for network in runtime.settings.webhook_allowed_networks
        ]
        self._signer = ProcessorSigner.load(runtime.settings)
        self._stop = stop

    def run(self) -> None:
        """Work until `stop` is set; a database that is away is waited for."""
        with ThreadPoolExecutor(SENDERS, thread_name_prefix="webhook") as senders:
            while not self._stop.is_set():
                try:
                    busy = self.step(senders)
                except OUTAGE as error:
                    logger.warning("No webhook was sent: the database is away (%s).", type(error).__name__)
                    busy = False
                except Exception:
                    # Whatever one message does to it, the thread has to live on for the others.
                    logger.exception("A webhook met a fault of the service.")
                    busy = False
                if not busy:
                    self._stop.wait(IDLE_SECONDS)

    def step(self, senders: ThreadPoolExecutor) -> bool:
        """Send one batch; tell whether there was anything to send."""
        claimed = claim(self._database, self._signer)
        list(senders.map(self._deliver, claimed))
        return bool(claimed)

    def _deliver(self, claimed: _Claimed) -> None:
        delivery = send(claimed.parcel, dt.datetime.now(dt.UTC), self._allowed)
        settle(self._database, claimed, delivery)


def claim(database: Database, signer: ProcessorSigner | None = None) -> list[_Claimed]:
    """Take messages that are due: until their claim is over, nobody else sends them.

    Without a `signer` OpenDSR callbacks stay where they are: another worker may have the certificate.
    """
    formats = list(MessageFormat) if signer is not None else [MessageFormat.STANDARD]
    with database.write() as session:
        now = database_now(session)
        rows = session.execute(
            select(WebhookMessage, WebhookEndpoint)
            .join_from(WebhookMessage, WebhookEndpoint)
            .where(WebhookMessage.next_attempt_at <= now, WebhookEndpoint.format.in_(formats))
            .order_by(WebhookMessage.next_attempt_at, WebhookMessage.id)
            .limit(BATCH)
            .with_for_update(of=WebhookMessage, skip_locked=True)
        ).all()
        for message, _ in rows:
            message.attempts += 1
            message.next_attempt_at = now + CLAIM
        return [
            _Claimed(
                row_id=message.id,
                endpoint_id=endpoint.id,
                attempt=message.attempts,
                parcel=Parcel(
                    f"msg_{message.id.hex}",
                    endpoint.url,
                    message.payload,
                    _secrets(endpoint, now),
                    signer if endpoint.format is MessageFormat.OPENDSR else None,
                ),
            )
            for message, endpoint in rows
        ]


def settle(database: Database, claimed: _Claimed, delivery: Delivery) -> None:
    """Write down what came of an attempt, unless the message was taken from us meanwhile."""
    with database.write() as session:
        now = database_now(session)
        message = session.scalars(
            select(WebhookMessage)
            .where(WebhookMessage.id == claimed.row_id, WebhookMessage.attempts == claimed.attempt)
            .where(WebhookMessage.next_attempt_at.is_not(None))
            .with_for_update()
        ).one_or_none()
        if message is None:
            return
        message.last_status, message.last_error = delivery.status, delivery.error
        if delivery.error is None:
            message.delivered_at, message.next_attempt_at = now, None
        else:
            message.next_attempt_at = _next_attempt(claimed.attempt, now)
        if delivery.gone:
            disable(session, claimed.endpoint_id, "It answered 410 Gone.", now)
    metrics.webhooks.labels("delivered" if delivery.error is None else "failed").inc()
    if delivery.error is not None:
        logger.warning(
            "Webhook message %s was not delivered, attempt %s: %s",
            claimed.row_id,
            claimed.attempt,
            delivery.error,
        )


def _secrets(endpoint: WebhookEndpoint, now: dt.datetime) -> list[bytes]:
    old, until = endpoint.previous_secret, endpoint.previous_secret_until
    overlap = [old] if old is not None and until is not None and until > now else []
    return [endpoint.secret, *overlap]


def _next_attempt(attempt: int, now: dt.datetime) -> dt.datetime | None:
    """Return when to try again after the attempt of this number; None where it was the last one."""
    if attempt > len(DELAYS):
        return None
    return now + DELAYS[attempt - 1] * secrets.SystemRandom().uniform(1 - JITTER, 1 + JITTER)


def start_dispatcher(runtime: Runtime, stop: threading.Event) -> threading.Thread:
    """Start a dispatcher in a thread of its own; it ends soon after `stop` is set."""
    thread = threading.Thread(target=partial(Dispatcher(runtime, stop).run), name="webhooks", daemon=True)
    thread.start()
    return thread
