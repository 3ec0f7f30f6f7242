"""What one service process holds open for its whole life."""

from dataclasses import dataclass

from app.database import Database
from app.rate_limit import RateLimiter
from app.settings import Settings
from app.storage import Storage


@dataclass(frozen=True)
class Runtime:
    """Settings, database, storage and limits of one process."""

    settings: Settings
    database: Database
    storage: Storage
    rate_limiter: RateLimiter

    @classmethod
    def open(cls, settings: Settings) -> "Runtime":
        """Open everything that `settings` name."""
        return cls(
            settings,
            Database(settings.database_url, pool_size=settings.database_pool_size),
            Storage(settings.storage_url, settings.cache_dir),
            RateLimiter(settings.rate_limit_per_second, settings.rate_limit_burst),
        )

    def close(self) -> None:
        """Close what was opened."""
        self.database.dispose()
