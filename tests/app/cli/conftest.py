"""The command line in this process, and a whole service (API and worker) in others for it to talk to."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.cli.demo.digits import Digits
from app.cli.demo.service import DemoService
from app.cli.program import run
from app.cli.train import train_checkpoint
from app.client import Client
from app.settings import get_settings
from models.families import get_family


@dataclass(frozen=True)
class Outcome:
    """What one command came to."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(autouse=True)
def _own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No command reads the settings of the machine that the tests run on."""
    for name in [name for name in os.environ if name.startswith("EXPUNGE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXPUNGE_DATABASE_URL", f"sqlite:///{tmp_path / 'expunge.db'}")
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@pytest.fixture
def expunge(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run a command; an error must be one line."""

    def call(*arguments: object) -> Outcome:
        status = run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Outcome(status, out, err)

    return call


@dataclass(frozen=True)
class Served:
    """A running service that knows the digits, and how to reach it."""

    client: Client
    url: str
    api_key: str
    data: Path
    checkpoint: Path


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("served")
    with DemoService(directory) as service:
        data, checkpoint = directory / "digits.npz", directory / "checkpoint"
        Digits.load().write(data)
        train_checkpoint(get_family("classifier"), [data], {"feature_dim": 64}, checkpoint, seed=0)
        announcement = service.wait_until_ready()
        with Client(announcement["url"], announcement["api_key"]) as client:
            dataset = client.register_dataset("digits", "classifier", [data])
            client.register_model("digits", "classifier", dataset["id"], checkpoint)
            yield Served(client, announcement["url"], announcement["api_key"], data, checkpoint)


@pytest.fixture
def connected(served: Served, monkeypatch: pytest.MonkeyPatch) -> Served:
    """Commands reach the service without being told each time."""
    monkeypatch.setenv("EXPUNGE_URL", served.url)
    monkeypatch.setenv("EXPUNGE_API_KEY", served.api_key)
    return served
