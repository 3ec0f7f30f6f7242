"""The service that the demonstration talks to: `expunge serve`, as a process of its own."""

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from app.cli.errors import CommandError
from app.client import Client, JsonObject, UnreachableError
from app.settings import Settings, child_environment

STOP_SECONDS = 60.0
"""More than the service itself takes at most: it has a worker to put away."""


class DemoService:
    """Runs `expunge serve` over files in one directory while the `with` block runs."""

    def __init__(self, directory: Path) -> None:
        self._log = directory / "service.log"
        settings = Settings(
            database_url=f"sqlite:///{directory / 'expunge.db'}",
            storage_url=str(directory / "storage"),
            signing_key_file=directory / "signing-key.pem",
            cache_dir=directory / "cache",
            host="127.0.0.1",
        )
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "app.cli", "serve", "--port", "0", "--json"],
                env=child_environment(settings),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        ended_early = self._process.poll() is not None
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        finally:
            if self._process.stdout is not None:
                self._process.stdout.close()
        if ended_early and isinstance(error, UnreachableError):
            raise CommandError(f"The service ended by itself: {self._last_words()}") from error

    def wait_until_ready(self) -> JsonObject:
        """Wait until the service answers, and return its `url` and first `api_key`.

        Raises:
            CommandError: The service ended instead; the message holds its last words.
        """
        assert self._process.stdout is not None  # noqa: S101 - it was opened as a pipe
        line = self._process.stdout.readline()
        if not line:
            raise CommandError(f"The service did not start: {self._last_words()}")
        announcement: JsonObject = json.loads(line)
        return announcement

    def connect(self) -> Client:
        """Return a client that holds the first admin key, once the service answers.

        Raises:
            CommandError: As `wait_until_ready`.
        """
        announcement = self.wait_until_ready()
        return Client(announcement["url"], announcement["api_key"])

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing."
