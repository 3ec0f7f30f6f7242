"""What one service process holds open for its whole life."""

from dataclasses import dataclass, field
from threading import BoundedSemaphore

from anyio import CapacityLimiter

from app.database import Database
from app.datasets.indexes import IndexCache
from app.forget_requests.limits import OpenRequests
from app.policies.base import base_policy
from app.rate_limit import RateLimiter
from app.settings import Settings
from app.storage import Storage
from app.trust.log.memory import SignedHeads
from app.trust.signing import SigningKeyFile

PARSERS = 2
"""Data sets and checkpoints that one process checks at once: the others wait, so that short calls need not."""


@dataclass(frozen=True)
class Runtime:
    """Settings, database, storage and limits of one process."""

    settings: Settings
    database: Database
    storage: Storage
    rate_limiter: RateLimiter
    indexes: IndexCache
    event_streams: BoundedSemaphore
    """One for each event stream that may be open."""
    signing: SigningKeyFile
    signed_heads: SignedHeads
    open_requests: OpenRequests
    parsers: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(PARSERS))

    @classmethod
    def open(cls, settings: Settings) -> "Runtime":
        """Open everything that `settings` name.

        Raises:
            PolicyFileError: The policy file cannot be used.
        """
        base_policy(settings)  # a file that is wrong stops the process here, not its first job
        storage = Storage(settings.storage_url, settings.cache_dir)
        return cls(
            settings,
            Database(settings.database_url, pool_size=settings.database_pool_size),
            storage,
            RateLimiter(settings.rate_limit_per_second, settings.rate_limit_burst),
            IndexCache(storage),
            BoundedSemaphore(settings.max_event_streams),
            SigningKeyFile(settings.signing_key_file, settings.log_origin),
            SignedHeads(settings.cache_dir / "signed-heads.json"),
            OpenRequests(settings.max_open_requests_per_key, settings.max_open_requests_per_model),
        )

    def close(self) -> None:
        """Close what was opened."""
        self.indexes.close()
        self.database.dispose()
