"""The journal beside the keys: what happened since a backup, as far as it must not be undone by restoring one.

It names versions that were withdrawn and forget requests that came in, by their ids, and holds no personal data.
Each process that keeps a keyring brings its journal up to date at every sweep and before every backup, so it lags
behind the database by one sweep at most.
"""

import datetime as dt
import json
import os
import uuid
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.tables import ForgetRequest, Version
from app.tables.version import VersionState

NAME = "journal.jsonl"
LATE = dt.timedelta(hours=1)
"""A request's row may become visible so long after the time it bears, at the very most."""


class Journal:
    """An append-only file of JSON lines."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / NAME
        self.withdrawn: dict[tuple[str, int], str | None] = {}
        """Model and version -> when it is to be destroyed, in ISO 8601."""
        self.requests: dict[str, str] = {}
        """Forget request -> when it came in, in ISO 8601."""
        if self._path.is_file():
            for line in self._path.read_text().splitlines():
                self._take(json.loads(line))

    def update(self, session: Session) -> None:
        """Add what the database knows and the journal does not."""
        lines = [*self._new_versions(session), *self._new_requests(session)]
        if not lines:
            return
        with self._path.open("a") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())
        for line in lines:
            self._take(line)

    def _take(self, line: dict[str, str | int | None]) -> None:
        if "version" in line:
            self.withdrawn[str(line["model"]), int(line["version"] or 0)] = line["destroy_after"]  # type: ignore[assignment]
        else:
            self.requests[str(line["request"])] = str(line["created_at"])

    def _new_versions(self, session: Session) -> list[dict[str, str | int | None]]:
        query = select(Version.model_id, Version.number, Version.destroy_after).where(
            Version.state != VersionState.PUBLISHED
        )
        return [
            {
                "model": str(model_id),
                "version": number,
                "destroy_after": destroy_after.isoformat() if destroy_after is not None else None,
            }
            for model_id, number, destroy_after in session.execute(query)
            if (str(model_id), number) not in self.withdrawn
        ]

    def _new_requests(self, session: Session) -> list[dict[str, str | int | None]]:
        query = select(ForgetRequest.id, ForgetRequest.created_at).order_by(ForgetRequest.created_at)
        if self.requests:
            newest = dt.datetime.fromisoformat(max(self.requests.values()))
            query = query.where(ForgetRequest.created_at >= newest - LATE)
        return [
            {"request": str(request_id), "created_at": created_at.isoformat()}
            for request_id, created_at in session.execute(query)
            if str(request_id) not in self.requests
        ]


def request_ids(journal: Journal, known: set[uuid.UUID]) -> list[str]:
    """Return the requests that the journal names and a database does not know, oldest first."""
    missing = [name for name in journal.requests if uuid.UUID(name) not in known]
    return sorted(missing, key=journal.requests.__getitem__)
