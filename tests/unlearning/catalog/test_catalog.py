import dataclasses
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest
from pydantic import Field

from models import plugins
from models.errors import PluginError
from unlearning import catalog
from unlearning.catalog import check_spec, get_method, methods
from unlearning.catalog.spec import CostInput, Guarantee, MethodConfig, MethodSpec
from unlearning.errors import ConfigurationError, UnknownMethodError


class FactorConfig(MethodConfig):
    factor: float = Field(0.5, ge=0, le=1)


class DemandingConfig(MethodConfig):
    factor: float


class CallbackConfig(MethodConfig):
    callback: Callable[[], None] = print


def cost(sizes: CostInput) -> float:
    return float(sizes.records)


GOOD = MethodSpec(
    family="classifier",
    name="shrink",
    title="Shrinking",
    summary="Shrinks what it is given.",
    targets=frozenset({"classes"}),
    guarantee=Guarantee.EMPIRICAL,
    architectures=None,
    needs=frozenset({"forget_data"}),
    config=FactorConfig,
    paper="none",
    implementation="somewhere.shrink:run",
    cost=cost,
)


@pytest.fixture
def plugged_in(monkeypatch):
    """Offer objects as if installed packages did; the catalog is read anew during the test and after it."""

    def offer(**offers: object) -> None:
        monkeypatch.setitem(sys.modules, "offering", SimpleNamespace(**offers))
        found = [EntryPoint(name, f"offering:{name}", catalog.ENTRY_POINT_GROUP) for name in offers]
        monkeypatch.setattr(plugins, "entry_points", lambda group: found)
        catalog._catalog.cache_clear()

    yield offer
    catalog._catalog.cache_clear()


def test_built_in_methods_are_found_by_family_and_name():
    names = [spec.name for spec in methods("classifier")]
    assert names == sorted(names)
    assert {"acu", "retrain"} <= set(names)
    assert get_method("classifier", "acu").guarantee is Guarantee.EXACT


def test_built_in_specs_pass_the_check_that_plug_ins_must_pass():
    for spec in methods():
        check_spec(spec)


def test_methods_of_a_family_without_any_are_none():
    assert methods("language") == ()


def test_unknown_method_names_those_that_are_installed():
    with pytest.raises(UnknownMethodError, match=r"no method 'acuu'.*: acu, .*retrain"):
        get_method("classifier", "acuu")


def test_entry_point_adds_one_method(plugged_in):
    plugged_in(one=GOOD)
    assert get_method("classifier", "shrink") is GOOD


def test_entry_point_adds_a_tuple_of_methods(plugged_in):
    other = dataclasses.replace(GOOD, name="shrink_more")
    plugged_in(two=(GOOD, other))
    assert get_method("classifier", "shrink_more") is other
    assert get_method("classifier", "shrink") is GOOD


def test_method_offered_twice_is_refused_with_both_origins(plugged_in):
    plugged_in(first=GOOD, second=GOOD)
    with pytest.raises(
        PluginError, match=r"classifier/shrink is offered twice.*offering:first.*offering:second"
    ):
        methods()


def test_plug_in_cannot_replace_a_built_in_method(plugged_in):
    plugged_in(usurper=dataclasses.replace(GOOD, name="acu"))
    with pytest.raises(PluginError, match=r"classifier/acu is offered twice.*'expunge'"):
        get_method("classifier", "retrain")


def test_plug_in_that_cannot_be_imported_is_named(plugged_in, monkeypatch):
    broken = EntryPoint("broken", "no_such_package.specs:METHODS", catalog.ENTRY_POINT_GROUP)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [broken])
    catalog._catalog.cache_clear()
    with pytest.raises(
        PluginError, match=r"no_such_package.specs:METHODS.*cannot be imported.*ModuleNotFoundError"
    ):
        methods()


@pytest.mark.parametrize(
    ("offered", "problem"),
    [
        ({"name": "shrink"}, "is a dict, not a MethodSpec"),
        ([GOOD], "is a list, not a MethodSpec"),
        (dataclasses.replace(GOOD, family="poems"), "unknown family"),
        (dataclasses.replace(GOOD, family=["classifier"]), "unknown family"),
        (dataclasses.replace(GOOD, name="Shrink It"), "has a name"),
        (dataclasses.replace(GOOD, name="auto"), "has a name"),
        (dataclasses.replace(GOOD, name=7), "has a name"),
        (dataclasses.replace(GOOD, targets=frozenset()), "targets"),
        (dataclasses.replace(GOOD, targets=frozenset({"users"})), "targets"),
        (dataclasses.replace(GOOD, guarantee="exact"), "Guarantee"),
        (dataclasses.replace(GOOD, architectures=["analytic"]), "architectures"),
        (dataclasses.replace(GOOD, needs=frozenset({"luck"})), "needs"),
        (dataclasses.replace(GOOD, paper=" "), "paper"),
        (dataclasses.replace(GOOD, implementation="somewhere.shrink"), "module:function"),
        (dataclasses.replace(GOOD, implementation=None), "module:function"),
        (dataclasses.replace(GOOD, update="run"), "module:function"),
        (dataclasses.replace(GOOD, cost=1.0), "cost"),
        (dataclasses.replace(GOOD, way="local"), "way"),
        (dataclasses.replace(GOOD, config=dict), "MethodConfig"),
        (dataclasses.replace(GOOD, config=CallbackConfig), "JSON Schema"),
        (dataclasses.replace(GOOD, config=DemandingConfig), "default for each parameter"),
    ],
)
def test_malformed_offer_is_refused_with_its_origin(plugged_in, offered, problem):
    plugged_in(bad=offered)
    with pytest.raises(PluginError, match=problem) as refusal:
        methods()
    assert "offering:bad" in str(refusal.value)


def test_wrong_parameter_is_named():
    with pytest.raises(ConfigurationError, match=r"classifier/shrink.*factor"):
        GOOD.configure({"factor": 2})
    with pytest.raises(ConfigurationError, match="unknown_one"):
        GOOD.configure({"unknown_one": 1})
