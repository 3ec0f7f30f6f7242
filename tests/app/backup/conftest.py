"""The yard of the worker's tests, and a second, empty service to restore into."""

import importlib.util
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from app.runtime import Runtime
from app.schema import migrate
from app.settings import Settings

_SPEC = importlib.util.spec_from_file_location(
    "worker_conftest", Path(__file__).parents[1] / "worker" / "conftest.py"
)
_WORKER = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_WORKER)
yard, executor, worker, Yard = _WORKER.yard, _WORKER.executor, _WORKER.worker, _WORKER.Yard


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    return settings.model_copy(update={"keyring_dir": tmp_path / "keyring"})


@pytest.fixture
def elsewhere(request, settings: Settings, tmp_path: Path) -> Iterator[Runtime]:
    """An empty service on another database of the same kind and another storage; only the keyring is the same."""
    url = make_url(settings.database_url)
    name = f"restored_{uuid.uuid4().hex}"
    if url.get_backend_name() == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / f"{name}.db")
        target = f"sqlite:///{tmp_path / name}.db"
    else:
        server = request.getfixturevalue("postgresql_template")
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template_expunge STRATEGY file_copy")
        target = url.set(database=name).render_as_string(hide_password=False)
    runtime = Runtime.open(
        settings.model_copy(
            update={"database_url": target, "storage_url": str(tmp_path / "restored-storage")}
        )
    )
    migrate(runtime.database)
    yield runtime
    runtime.close()
    if url.get_backend_name() != "sqlite":
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
