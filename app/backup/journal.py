"""The journal beside the keys: what happened since a backup, as far as it must not be undone by restoring one.

It names the places of versions that were withdrawn and the ids of forget requests that came in, and holds no
personal data. A place is used once, while a restored service gives the numbers of lost versions away again.
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

_Line = dict[str, str | None]


class Journal:
    """An append-only file of JSON lines."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / NAME
        self.withdrawn: dict[str, str | None] = {}
        """Place of a version -> when it is to be destroyed, in ISO 8601."""
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

    def _take(self, line: _Line) -> None:
        if "withdrawn" in line:
            self.withdrawn[str(line["withdrawn"])] = line["destroy_after"]
        else:
            self.requests[str(line["request"])] = str(line["created_at"])

    def _new_versions(self, session: Session) -> list[_Line]:
        query = select(Version.location, Version.destroy_after).where(Version.state != VersionState.PUBLISHED)
        return [
            {
                "withdrawn": location,
                "destroy_after": destroy_after.isoformat() if destroy_after is not None else None,
            }
            for location, destroy_after in session.execute(query)
            if location not in self.withdrawn
        ]

    def _new_requests(self, session: Session) -> list[_Line]:
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
