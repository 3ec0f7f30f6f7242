"""What this machine has signed of the log: a file outside the database, so that no process signs two histories.

A log must never sign a tree head that is inconsistent with one it has signed before (C2SP `tlog-checkpoint`).
Whoever changes the database cannot change this file; a machine that has never signed begins with what it sees.
"""

import fcntl
import json
from collections.abc import Callable
from pathlib import Path

from app.errors import ServiceError

REMEMBERED = 100
"""Tree heads; a database that is restored from further back is not noticed here, only by who has kept a tree head."""


class LogRewrittenError(ServiceError):
    """The log in the database does not begin with what was signed before."""

    status, slug, title = 503, "log-rewritten", "Log rewritten"

    def __init__(self, size: int, path: Path) -> None:
        super().__init__(
            f"The first {size} entries of the transparency log are not those that were signed before, so no tree head "
            f"is signed. 'expunge log verify' says more; whoever has restored an old database on purpose deletes {path}."
        )


class SignedHeads:
    """Remembers tree heads in a file that several processes of one machine may share."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def forget(self) -> None:
        """Begin anew, where the database was replaced on purpose."""
        self.path.unlink(missing_ok=True)

    def remember(self, size: int, root_of: Callable[[int], bytes]) -> bytes:
        """Return the root of the log of `size` entries, once it is consistent with what was signed before.

        Args:
            size: Entries of the log now.
            root_of: Returns the root of the first so many entries, as the database has them.

        Raises:
            LogRewrittenError: It is not.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed
            file.seek(0)
            heads = json.loads(file.read() or "[]")
            # Another call may have signed a later state meanwhile; the latest one before ours vouches for the rest.
            before = [(known, root) for known, root in heads if known <= size]
            if before and root_of(before[-1][0]).hex() != before[-1][1]:
                raise LogRewrittenError(before[-1][0], self.path)
            root = root_of(size)
            if not heads or size > heads[-1][0]:
                file.truncate(0)
                file.write(json.dumps([*heads, (size, root.hex())][-REMEMBERED:]))
        return root
