"""Making the keyring follow the database: what was erased there can be opened in no backup any more.

It runs at every sweep of a worker that has a keyring, at `expunge sweep` and before each backup. A key is shredded
only where a row says that its thing is gone; a database that knows nothing of it, an empty one say, shreds nothing.
"""

import logging

from app.backup.journal import Journal
from app.backup.keyring import Keyring
from app.backup.personal import SEALED_COLUMNS, STORED, erased_rows, gone_locations
from app.runtime import Runtime

logger = logging.getLogger(__name__)


def reconcile(runtime: Runtime) -> int:
    """Shred the keys of what is gone, and bring the journal up to date; return how many keys were shredded."""
    directory = runtime.settings.keyring_dir
    if not directory.is_dir():
        return 0  # no backup was ever made from here
    keyring, shredded = Keyring(directory), 0
    with runtime.database.read() as session:
        Journal(directory).update(session)
        for table in SEALED_COLUMNS:
            for name in erased_rows(session, table, keyring.names(table)):
                keyring.shred(table, name)
                shredded += 1
        for location in gone_locations(session, keyring.names(STORED)):
            keyring.shred(STORED, location)
            shredded += 1
    if shredded:
        logger.info("%s keys of backups were shredded.", shredded)
    return shredded
