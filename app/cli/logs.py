"""Logging of the processes that the command line starts."""

from app.logs import LogStyle
from app.logs import configure_logging as configure
from app.settings import Settings, get_settings


def configure_logging(settings: Settings | None = None) -> None:
    """Log to standard error as the settings say, so that standard output stays for results."""
    settings = settings or get_settings()
    configure(LogStyle(settings.log_format, settings.log_level))
