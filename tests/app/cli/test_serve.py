"""`serve`, `api` and `worker` as processes: how they start, announce themselves, stop, and outlive a worker."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import psutil
import pytest

WAIT_SECONDS = 60


@contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen]:
    with subprocess.Popen(
        [sys.executable, "-m", "app.cli", *arguments],
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as started:
        try:
            yield started
        finally:
            started.kill()


def end(started: subprocess.Popen, number: signal.Signals) -> tuple[str, str]:
    started.send_signal(number)
    return started.communicate(timeout=WAIT_SECONDS)


def workers(started: subprocess.Popen) -> list[psutil.Process]:
    """The worker and its children: whatever the service started, but for multiprocessing's own helper."""
    children = psutil.Process(started.pid).children(recursive=True)
    return [child for child in children if "resource_tracker" not in " ".join(child.cmdline())]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_sets_an_empty_database_up_and_stops_cleanly(number):
    with process("serve", "--port", "0", "--json") as started:
        announcement = json.loads(started.stdout.readline())
        headers = {"Authorization": f"Bearer {announcement['api_key']}"}
        assert httpx.get(f"{announcement['url']}/v1/models", headers=headers).status_code == 200
        assert httpx.get(f"{announcement['url']}/readyz").status_code == 200
        running = psutil.Process(started.pid).children(recursive=True)
        end(started, number)
        assert started.returncode == 0
        _, alive = psutil.wait_procs(running, timeout=WAIT_SECONDS)
        assert alive == []


def test_the_first_key_is_shown_once():
    with process("serve", "--port", "0", "--json") as started:
        assert json.loads(started.stdout.readline())["api_key"].startswith("xp_")
        end(started, signal.SIGTERM)
    with process("serve", "--port", "0", "--json") as started:
        assert json.loads(started.stdout.readline())["api_key"] is None
        end(started, signal.SIGTERM)


def test_without_json_a_person_is_shown_the_key():
    with process("serve", "--port", "0") as started:
        assert started.stdout.readline().startswith("xp_")
        assert any("Expunge serves on http://127.0.0.1:" in line for line in started.stderr)
        end(started, signal.SIGTERM)
        assert started.returncode == 0


def test_a_worker_that_dies_is_started_again():
    with process("serve", "--port", "0", "--json") as started:
        announcement = json.loads(started.stdout.readline())
        (worker,) = (child for child in psutil.Process(started.pid).children() if child in workers(started))
        worker.kill()
        assert any("The worker ended" in line for line in started.stderr)
        worker.wait(WAIT_SECONDS)
        assert httpx.get(f"{announcement['url']}/healthz").status_code == 200
        end(started, signal.SIGTERM)
        assert started.returncode == 0


def test_a_worker_does_not_outlive_a_service_that_was_killed():
    with process("serve", "--port", "0", "--json") as started:
        started.stdout.readline()
        running = workers(started)
        assert running
        started.kill()
        started.wait(WAIT_SECONDS)
        _, alive = psutil.wait_procs(running, timeout=WAIT_SECONDS)
        assert alive == []


def test_a_taken_port_is_one_line(expunge):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        outcome = expunge("serve", "--port", taken.getsockname()[1])
    assert outcome.status == 1
    assert outcome.err.startswith("error: Cannot listen on 127.0.0.1 port")
    assert outcome.err.count("\n") == 1


def test_api_and_worker_run_apart(expunge):
    expunge("migrate")
    expunge("keys", "signing", "create")
    with process("api", "--port", "0", "--json") as api, process("worker") as worker:
        url = json.loads(api.stdout.readline())["url"]
        assert httpx.get(f"{url}/healthz").json() == {"status": "ok"}
        assert worker.poll() is None
        end(api, signal.SIGTERM)
        end(worker, signal.SIGTERM)
        assert (api.returncode, worker.returncode) == (0, 0)
