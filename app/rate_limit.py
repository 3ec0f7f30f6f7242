"""Token buckets, one per API key, in the memory of one API process."""

import math
import threading
import time
import uuid

from app.errors import ServiceError


class RateLimitedError(ServiceError):
    """The key's bucket is empty."""

    status, slug, title = 429, "rate-limited", "Too many requests"

    def __init__(self, wait_seconds: float) -> None:
        seconds = math.ceil(wait_seconds)
        super().__init__(f"This API key has used up its request rate; try again in {seconds} s.")
        self.headers["Retry-After"] = str(seconds)


class RateLimiter:
    """Buckets of `burst` tokens that refill at `per_second`; one call spends one token."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second = per_second
        self._burst = float(burst)
        self._buckets: dict[uuid.UUID, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def spend(self, key: uuid.UUID, *, now: float | None = None) -> None:
        """Take one token of `key`.

        Raises:
            RateLimitedError: There is none; it says when there will be one.
        """
        now = time.monotonic() if now is None else now
        with self._lock:
            tokens, since = self._buckets.get(key, (self._burst, now))
            tokens = min(self._burst, tokens + (now - since) * self._per_second)
            if tokens < 1:
                self._buckets[key] = (tokens, now)
                raise RateLimitedError((1 - tokens) / self._per_second)
            self._buckets[key] = (tokens - 1, now)
