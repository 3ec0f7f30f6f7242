import threading

import pytest

from app.cli import worker_process
from app.cli.worker_process import WorkerProcess
from app.settings import Settings


@pytest.fixture
def gave_up(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    # Any function that the child process can import and that returns at once is a worker that dies at once.
    monkeypatch.setattr(worker_process, "_run", repr)
    return threading.Event()


def test_a_worker_that_dies_at_once_every_time_is_given_up(gave_up, capsys):
    with WorkerProcess(Settings(_env_file=None), on_giving_up=gave_up.set) as worker:
        assert gave_up.wait(60)
    assert worker.gave_up
    assert capsys.readouterr().err.count("The worker ended with status 0.") == worker_process.MOST_SHORT_LIVES


def test_a_worker_that_lived_long_enough_is_started_again(gave_up, monkeypatch):
    monkeypatch.setattr(worker_process, "SHORT_LIFE_SECONDS", 0.0)
    started = threading.Semaphore(0)
    start = WorkerProcess._start

    def counted(self):
        started.release()
        return start(self)

    monkeypatch.setattr(WorkerProcess, "_start", counted)
    with WorkerProcess(Settings(_env_file=None), on_giving_up=gave_up.set) as worker:
        for _ in range(worker_process.MOST_SHORT_LIVES + 1):
            assert started.acquire(timeout=60)
    assert not worker.gave_up
