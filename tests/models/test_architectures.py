from importlib.metadata import EntryPoint

import pytest

from models import architectures as module
from models import plugins
from models.architectures import Architecture, architectures, describe_config, get_architecture
from models.errors import PluginError, UnknownArchitectureError

TINY = Architecture(
    family="classifier",
    name="tiny",
    title="An architecture of another package",
    describe=lambda config: {"family": "classifier", "architecture": "tiny", "width": config["width"]},
    runtime_module="tests.reference.acu_recursion",
)
ANALYTIC = Architecture("classifier", "analytic", "", lambda config: config, "")
NOTHING = 3


@pytest.fixture
def plug_in(monkeypatch):
    def install(name: str) -> None:
        entry_point = EntryPoint(name, f"{__name__}:{name}", module.ENTRY_POINTS)
        monkeypatch.setattr(EntryPoint, "load", lambda _: globals()[name])
        monkeypatch.setattr(plugins, "entry_points", lambda group: [entry_point])
        architectures.cache_clear()

    yield install
    architectures.cache_clear()


def test_the_analytic_classifier_is_built_in():
    assert get_architecture("classifier", "analytic").runtime().__name__ == "models.classifier.analytic"


def test_an_unknown_architecture_is_refused_with_the_known_ones():
    with pytest.raises(
        UnknownArchitectureError, match=r"no classifier architecture 'resnet'; installed:.*analytic"
    ):
        describe_config("classifier", {"architecture": "resnet"})
    with pytest.raises(UnknownArchitectureError, match="'None'"):
        describe_config("classifier", {})


def test_another_package_adds_an_architecture(plug_in):
    plug_in("TINY")
    assert get_architecture("classifier", "tiny") is TINY
    assert describe_config("classifier", {"architecture": "tiny", "width": 3})["width"] == 3
    assert get_architecture("classifier", "analytic").title


@pytest.mark.parametrize(
    ("name", "message"), [("ANALYTIC", "installed already"), ("NOTHING", "not an Architecture")]
)
def test_an_offer_that_cannot_be_taken_is_refused(plug_in, name, message):
    plug_in(name)
    with pytest.raises(PluginError, match=message):
        architectures()
