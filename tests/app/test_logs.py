"""Logs: one JSON object a line, whoever writes it; ids that are bound; and nothing personal in an exception."""

import asyncio
import gc
import json
import logging
import sys
import threading
import warnings

import pytest
import structlog
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from app.logs import (
    LogStyle,
    bound,
    bound_values,
    configure_logging,
    describe_exception,
    make_formatter,
    wants_json,
)


@pytest.fixture
def log(monkeypatch, capsys):
    """Configure this process's logging for the test alone; returns what reads the lines written since."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    hooks = sys.excepthook, threading.excepthook
    levels = {
        name: logging.getLogger(name).level for name in ("app", "unlearning", "models", "expunge", "uvicorn")
    }

    def lines() -> list[dict]:
        err = capsys.readouterr().err
        return [json.loads(line) for line in err.splitlines()]

    configure_logging(LogStyle("json", "debug"))
    yield lines
    root.handlers = handlers
    root.setLevel(level)
    sys.excepthook, threading.excepthook = hooks
    logging.captureWarnings(capture=False)
    for name, known in levels.items():
        logging.getLogger(name).setLevel(known)
    structlog.contextvars.clear_contextvars()


def test_a_line_is_one_json_object_with_what_is_bound(log):
    with bound(job_id="j1", model="digits"):
        logging.getLogger("app.worker").info("Job %s\nbegins.", "j1", extra={"requests": 3})
    logging.getLogger("app.worker").info("Idle.")

    first, second = log()
    assert first | {"timestamp": ""} == {
        "event": "Job j1\nbegins.",
        "job_id": "j1",
        "model": "digits",
        "requests": 3,
        "level": "info",
        "logger": "app.worker",
        "timestamp": "",
    }
    assert "job_id" not in second


def test_an_exception_is_logged_by_its_frames_and_not_by_its_message(log):
    def fail():
        try:
            {}["subject-4711"]
        except KeyError as error:
            raise ValueError("about subject-4711") from error

    try:
        fail()
    except ValueError:
        logging.getLogger("app.call").exception("The service failed.")

    [line] = log()
    assert line["exception"].endswith("ValueError")
    assert "KeyError\nled to\n" in line["exception"]
    assert "test_logs.py" in line["exception"]
    assert (
        'raise ValueError("about' in line["exception"]
    )  # the source, which is ours; the message would be its value
    assert "about subject-4711'" not in line["exception"]


def test_what_a_database_or_file_that_is_away_says_is_kept():
    engine = create_engine("sqlite://", hide_parameters=True)
    subject = "subject-4711"
    with pytest.raises(OperationalError) as caught, engine.connect() as connection:
        connection.execute(text("SELECT :subject FROM nowhere"), {"subject": subject})
    assert describe_exception(caught.value).rstrip().endswith("no such table: nowhere")
    assert "subject-4711" not in describe_exception(caught.value)
    engine.dispose()
    assert describe_exception(FileNotFoundError(2, "No such file", "/data/subject-4711")) == (
        "FileNotFoundError: No such file"
    )


def test_other_packages_are_heard_from_warnings_on_only(log):
    logging.getLogger("sqlalchemy.engine").info("SELECT … subject-4711")
    logging.getLogger("httpcore").debug("send subject-4711")
    logging.getLogger("somebody").warning("Careful.")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("Old.", UserWarning, stacklevel=1)

    assert [line["logger"] for line in log()] == ["somebody", "py.warnings"]


def test_asyncio_shows_no_objects(log):
    async def fail():
        raise RuntimeError("about subject-4711")

    async def forget():
        asyncio.get_running_loop().create_task(fail())
        await asyncio.sleep(0)

    asyncio.run(forget())
    gc.collect()

    [line] = log()
    assert line["event"] == "Task exception was never retrieved"
    assert "about subject-4711'" not in json.dumps(line)


def test_what_nobody_caught_is_a_line_too(log):
    def fail():
        raise RuntimeError("about subject-4711")

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    sys.excepthook(RuntimeError, RuntimeError("about subject-4711"), None)

    lines = log()
    assert [line["level"] for line in lines] == ["critical", "critical"]
    assert "about subject-4711'" not in json.dumps(lines)


def test_a_style_carries_what_is_bound_to_another_process(log):
    configure_logging(LogStyle("json", "warning", {"job_id": "j1"}))
    assert bound_values() == {"job_id": "j1"}
    logging.getLogger("app").info("Not told.")
    logging.getLogger("app").warning("Told.")
    assert [line["job_id"] for line in log()] == ["j1"]


def test_lines_for_people_are_no_json():
    record = logging.LogRecord("app", logging.INFO, __file__, 1, "Ready.", (), None)
    assert "Ready." in make_formatter(as_json=False).format(record)
    assert not make_formatter(as_json=False).format(record).startswith("{")


def test_auto_is_json_where_there_is_no_terminal(monkeypatch):
    assert wants_json("auto")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert not wants_json("auto")
    assert wants_json("json")
