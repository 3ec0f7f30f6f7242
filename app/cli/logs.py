"""Logging of the service's own processes."""

import logging


def configure_logging() -> None:
    """Log to standard error, so that standard output stays for results."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells of each of its parts at every look
