"""The yard of the worker's tests, a service's database and storage filled without HTTP, and sweeps of it."""

import datetime as dt
import importlib.util
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import update

from app.retention.sweeper import Swept, sweep
from app.runtime import Runtime
from app.tables import Version

_SPEC = importlib.util.spec_from_file_location(
    "worker_conftest", Path(__file__).parents[1] / "worker" / "conftest.py"
)
_WORKER = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_WORKER)
yard, executor, worker, Yard = _WORKER.yard, _WORKER.executor, _WORKER.worker, _WORKER.Yard
LONG_AGO = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.fixture
def sweep_once(runtime: Runtime) -> Callable[[], Swept]:
    """Sweep without waiting for a turn."""
    return lambda: sweep(runtime, threading.Event(), at_once=True)


@pytest.fixture
def sweep_all(sweep_once) -> Callable[[], Swept]:
    """Sweep until there is nothing left to do."""

    def run() -> Swept:
        total = Swept()
        while (swept := sweep_once()).changed:
            total = total.plus(swept)
        return total

    return run


@pytest.fixture
def outlive(runtime: Runtime) -> Callable[[], None]:
    """Let the retention of every quarantined version be over."""

    def run() -> None:
        with runtime.database.write() as session:
            session.execute(
                update(Version).where(Version.destroy_after.is_not(None)).values(destroy_after=LONG_AGO)
            )

    return run
