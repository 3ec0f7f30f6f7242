"""Logs of the service's processes: a JSON object on each line of standard error, or lines for people on a terminal.

Loggers of the standard library end here too, those of other packages included, so that a log has one form. What is
bound by `bound()` stands in every line written under it: the ids of the call, the job and its forget requests.

Nothing that is to be forgotten may stand in a log. So no exception's message is written, only its type and frames: a
stranger's message may quote the very ids. And `log_level` is for Expunge's own loggers: at DEBUG, other packages'
would tell of SQL rows, bodies and URLs.
"""

import logging
import re
import sys
import threading
import traceback
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor, WrappedLogger

LogFormat = Literal["auto", "json", "console"]
LogLevel = Literal["debug", "info", "warning", "error"]

OWN_LOGGERS = ("app", "unlearning", "models", "expunge")
NAMED_AT_MOST = 20
"""How many forget requests of one job a line names; their number is always told."""

REQUEST_ID = re.compile(r"[0-9A-Za-z_-]{16,64}", re.ASCII)
"""What a request id may look like. Anything shorter could be somebody's customer number instead of a random one."""

ACCESS_LOGGER = "app.access"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LogStyle:
    """How a process logs; a plain value, so that a worker can pass it on to the processes of its jobs."""

    form: LogFormat = "auto"
    level: LogLevel = "info"
    context: Mapping[str, Any] = field(default_factory=dict)
    """What is bound in the process that passes it on."""


class _Handler(logging.Handler):
    """Writes to whatever standard error is at the time. Our own, so that configuring twice replaces it alone."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line at once."""
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except Exception:  # noqa: BLE001 - as every handler does: logging must not break what it tells of
            self.handleError(record)


def configure_logging(style: LogStyle) -> None:
    """Let this process log in a style; what its context binds stands in every line of the calling thread."""
    handler = _Handler()
    handler.setFormatter(make_formatter(as_json=wants_json(style.form)))
    root = logging.getLogger()
    for old in [known for known in root.handlers if isinstance(known, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    for name in OWN_LOGGERS:
        logging.getLogger(name).setLevel(style.level.upper())
    logging.getLogger("uvicorn").setLevel(logging.INFO)
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_of_thread
    if style.context:
        structlog.contextvars.bind_contextvars(**style.context)


def make_formatter(*, as_json: bool) -> ProcessorFormatter:
    """Return what turns a log record into a line."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        _without_duplicates,
        _without_quotations,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_message,
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False, default=str)
        if as_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), sort_keys=False)
    )
    return ProcessorFormatter(
        foreign_pre_chain=shared, processors=[ProcessorFormatter.remove_processors_meta, renderer]
    )


def bound(**values: Any) -> AbstractContextManager[None]:
    """Let every line that is written while the block runs hold these values, in this thread and task."""
    return structlog.contextvars.bound_contextvars(**values)


def bound_values() -> dict[str, Any]:
    """Return what is bound at present."""
    return structlog.contextvars.get_contextvars()


def describe_exception(error: BaseException) -> str:
    """Return the frames and types of an error and of what caused it, without the messages.

    >>> try:
    ...     {}["4711"]
    ... except KeyError as error:
    ...     text = describe_exception(error)
    >>> text.splitlines()[-1], "4711" in text.replace('{}["4711"]', "")
    ('KeyError', False)
    """
    parts = "".join(traceback.format_tb(error.__traceback__)) + _name(error)
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return parts if cause is None else f"{describe_exception(cause)}\nled to\n{parts}"


def _name(error: BaseException) -> str:
    name = type(error).__qualname__
    if isinstance(error, OSError):
        return f"{name}: {error.strerror}"
    if isinstance(error, (OperationalError, InterfaceError)):
        # What a database that is away says; its statements' values are hidden (`app.database`).
        return f"{name}: {' '.join(str(error.orig).split())}"
    return name


def wants_json(form: LogFormat) -> bool:
    """Tell whether lines are JSON; `auto` is JSON unless standard error is a terminal."""
    return not sys.stderr.isatty() if form == "auto" else form == "json"


def _without_duplicates(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Drop what another handler's formatter has left in the record, and what uvicorn says twice."""
    for name in ("message", "asctime", "color_message"):
        event.pop(name, None)
    return event


def _without_quotations(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Keep the first line of what asyncio says: the others show objects, exceptions with their messages among them."""
    if event.get("logger") == "asyncio":
        event["event"] = str(event["event"]).partition("\n")[0]
    return event


def _without_message(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    information = event.pop("exc_info", None)
    error = information[1] if isinstance(information, tuple) else information
    if isinstance(error, BaseException):
        event["exception"] = describe_exception(error)
    return event


def _log_uncaught(kind: type[BaseException], error: BaseException, frames: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logger.critical("The process ends by an error that nobody caught.", exc_info=(kind, error, frames))


def _log_uncaught_of_thread(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_value is None or isinstance(arguments.exc_value, SystemExit):
        return
    logger.critical("A thread ended by an error that nobody caught.", exc_info=arguments.exc_value)
