"""How many forget requests of one key, and for one model, may be open: a flood is refused while it comes in.

Submission is the busiest call there is, so it does not count rows: each process counts them once in a while and adds
what it has admitted since. Several processes together may therefore admit a second's worth of requests too many.
"""

import threading
import time
import uuid
from collections import Counter

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.errors import ServiceError
from app.tables import ForgetRequest
from app.tables.forget_request import RequestStatus

FRESH_SECONDS = 1.0
SHARE = 20
"""Counting rests for so many times as long as it took: a long queue does not make it a burden."""

RETRY_AFTER_SECONDS = 60
COUNTED = (RequestStatus.PENDING, RequestStatus.RUNNING)


class TooManyOpenRequestsError(ServiceError):
    """So many requests wait that one more is refused."""

    status, slug, title = 429, "too-many-open-requests", "Too many open forget requests"

    def __init__(self, whose: str, limit: int) -> None:
        super().__init__(
            f"{whose} has {limit} forget requests that are pending or running, the most that may be; "
            "submit this one again when some of them are done."
        )
        self.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)


class OpenRequests:
    """What is pending or running, by key and by model, as far as this process knows."""

    def __init__(self, per_key: int, per_model: int) -> None:
        self._per_key = per_key
        self._per_model = per_model
        self._counting = threading.Lock()
        self._keys: Counter[uuid.UUID] = Counter()
        self._models: Counter[uuid.UUID] = Counter()
        self._next_count = 0.0

    def admit(self, session: Session, key_id: uuid.UUID, model_id: uuid.UUID, model: str) -> None:
        """Take a place for one more request.

        Raises:
            TooManyOpenRequestsError: There is none left for this key, or for this model.
        """
        if time.monotonic() >= self._next_count and self._counting.acquire(blocking=False):
            try:  # whoever comes meanwhile goes by the old numbers
                self._count(session)
            finally:
                self._counting.release()
        if self._keys[key_id] >= self._per_key:
            raise TooManyOpenRequestsError("This API key", self._per_key)
        if self._models[model_id] >= self._per_model:
            raise TooManyOpenRequestsError(f"The model {model!r}", self._per_model)
        self._keys[key_id] += 1
        self._models[model_id] += 1

    def _count(self, session: Session) -> None:
        started = time.monotonic()
        query = (
            select(ForgetRequest.api_key_id, ForgetRequest.model_id, func.count())
            .where(ForgetRequest.status.in_(COUNTED))
            .group_by(ForgetRequest.api_key_id, ForgetRequest.model_id)
        )
        keys: Counter[uuid.UUID] = Counter()
        models: Counter[uuid.UUID] = Counter()
        for key_id, model_id, number in session.execute(query):
            if key_id is not None:
                keys[key_id] += number
            models[model_id] += number
        self._keys, self._models = keys, models
        now = time.monotonic()
        self._next_count = now + max(FRESH_SECONDS, SHARE * (now - started))
