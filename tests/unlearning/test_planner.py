import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import UnknownFamilyError
from unlearning import catalog
from unlearning.catalog.spec import CostInput, Guarantee, MethodConfig, MethodSpec
from unlearning.errors import ConfigurationError, PlanningError, UnknownMethodError
from unlearning.planner import FLOPS_PER_SECOND, STRENGTH, Plan, PlanInput, make_plan

KINDS = ("records", "subjects", "classes")
NEEDS = ("forget_data", "retained_data", "statistics")
ASKED = ("any", "exact", "certified", "empirical")


class StepsConfig(MethodConfig):
    steps: int = 3


@dataclasses.dataclass(frozen=True)
class Constant:
    """A cost that does not depend on sizes; a plain class, so that a failing example prints it."""

    flops: float

    def __call__(self, _sizes: CostInput) -> float:
        return self.flops


def spec(name, guarantee=Guarantee.EMPIRICAL, flops=1.0, **fields):
    values = {
        "family": "classifier",
        "name": name,
        "title": name,
        "summary": name,
        "targets": frozenset(KINDS),
        "guarantee": guarantee,
        "architectures": None,
        "needs": frozenset(),
        "config": StepsConfig,
        "paper": "none",
        "implementation": "none:run",
        "cost": Constant(flops),
    }
    return MethodSpec(**(values | fields))


def asking(**fields):
    values = {
        "family": "classifier",
        "architecture": {"architecture": "analytic"},
        "target_kind": "records",
        "records": 1000,
        "forget": 10,
    }
    return PlanInput(**(values | fields))


def install(monkeypatch, *specs):
    """Make these the whole catalog."""
    entries = {(one.family, one.name): one for one in sorted(specs, key=lambda one: one.name)}
    monkeypatch.setattr(catalog, "_catalog", lambda: entries)


def names(plan):
    return [rung.method for rung in plan.rungs]


def reason_against(plan, name):
    return next(entry.reason for entry in plan.ruled_out if entry.method == name)


def test_cheapest_comes_first_and_the_fallback_last(monkeypatch):
    install(
        monkeypatch,
        spec("retrain", Guarantee.EXACT, flops=1.0, fallback=True),
        spec("dear", flops=300.0),
        spec("cheap", flops=2.0),
    )
    assert names(make_plan(asking())) == ["cheap", "dear", "retrain"]


def test_stronger_guarantee_comes_first_at_equal_cost(monkeypatch):
    install(
        monkeypatch,
        spec("a", Guarantee.EMPIRICAL),
        spec("b", Guarantee.CERTIFIED),
        spec("c", Guarantee.EXACT),
    )
    assert names(make_plan(asking())) == ["c", "b", "a"]


def test_weaker_methods_are_ruled_out_with_the_reason(monkeypatch):
    install(
        monkeypatch,
        spec("a", Guarantee.EMPIRICAL),
        spec("b", Guarantee.CERTIFIED),
        spec("c", Guarantee.EXACT),
    )
    certified = make_plan(asking(guarantee="certified"))
    assert names(certified) == ["c", "b"]
    assert "guarantee is empirical" in reason_against(certified, "a")
    exact = make_plan(asking(guarantee="exact"))
    assert names(exact) == ["c"]
    assert "guarantee is certified, weaker than the exact one" in reason_against(exact, "b")


def test_wrong_target_kind_architecture_and_needs_are_reasons(monkeypatch):
    install(
        monkeypatch,
        spec("fits"),
        spec("classes_only", targets=frozenset({"classes"})),
        spec("deep_only", architectures=frozenset({"resnet"})),
        spec("from_statistics", needs=frozenset({"statistics"})),
    )
    plan = make_plan(asking(available={"forget_data", "retained_data"}))
    assert names(plan) == ["fits"]
    assert "forgets classes, not records" in reason_against(plan, "classes_only")
    assert "architectures resnet; this model is analytic" in reason_against(plan, "deep_only")
    assert "needs statistics" in reason_against(plan, "from_statistics")


def test_named_method_is_the_only_rung_and_says_so(monkeypatch):
    install(monkeypatch, spec("a", flops=9.0), spec("b"))
    plan = make_plan(asking(method="a", parameters={"steps": 5}))
    assert names(plan) == ["a"]
    assert plan.rungs[0].parameters == {"steps": 5}
    assert "named in the request" in plan.rungs[0].reason
    assert "a was named instead" in reason_against(plan, "b")


def test_named_method_with_too_weak_a_guarantee_is_refused(monkeypatch):
    install(monkeypatch, spec("a"), spec("c", Guarantee.EXACT))
    with pytest.raises(PlanningError, match=r"method a cannot serve.*empirical"):
        make_plan(asking(method="a", guarantee="exact"))


def test_nothing_that_fits_is_refused_with_every_reason(monkeypatch):
    install(monkeypatch, spec("a"), spec("b", targets=frozenset({"classes"})))
    with pytest.raises(PlanningError, match=r"a: Its guarantee is empirical.*b: It forgets classes"):
        make_plan(asking(guarantee="exact"))


def test_unknown_method_family_and_parameters_are_refused(monkeypatch):
    install(monkeypatch, spec("a"))
    with pytest.raises(UnknownMethodError):
        make_plan(asking(method="b"))
    with pytest.raises(UnknownFamilyError):
        make_plan(asking(family="poems"))
    with pytest.raises(ConfigurationError, match="steps"):
        make_plan(asking(method="a", parameters={"steps": "many"}))


def test_parameters_without_a_named_method_are_refused(monkeypatch):
    install(monkeypatch, spec("a"))
    with pytest.raises(ConfigurationError, match="name it"):
        make_plan(asking(parameters={"steps": 5}))


def test_defaults_are_filled_in(monkeypatch):
    install(monkeypatch, spec("a"))
    assert make_plan(asking()).rungs[0].parameters == {"steps": 3}


def test_seconds_follow_from_operations(monkeypatch):
    install(monkeypatch, spec("a", flops=3 * FLOPS_PER_SECOND))
    rung = make_plan(asking()).rungs[0]
    assert rung.estimated_flops == 3 * FLOPS_PER_SECOND
    assert rung.estimated_seconds == pytest.approx(3.0)


@pytest.mark.parametrize("flops", [float("nan"), float("inf"), -1.0])
def test_method_without_a_usable_cost_is_ruled_out(monkeypatch, flops):
    install(monkeypatch, spec("a"), spec("b", flops=flops))
    plan = make_plan(asking())
    assert names(plan) == ["a"]
    assert "cost estimate fails" in reason_against(plan, "b")


def test_method_whose_cost_raises_is_ruled_out(monkeypatch):
    install(monkeypatch, spec("a"), spec("b", cost=lambda sizes: sizes.architecture["absent"]))
    assert names(make_plan(asking())) == ["a"]


def test_cost_never_sees_more_forgotten_than_trained_records(monkeypatch):
    install(monkeypatch, spec("a", cost=lambda sizes: float(sizes.records - sizes.forget)))
    assert make_plan(asking(records=5, forget=9)).rungs[0].estimated_flops == 0


def test_architecture_must_be_named():
    with pytest.raises(ValueError, match="must name the architecture"):
        asking(architecture={"features": 3})


def test_built_in_ladder_for_an_analytic_classifier():
    known = {"architecture": "analytic", "flops_per_record": 1e6, "flops_to_finish": 1e9}
    plan = make_plan(asking(architecture=known, guarantee="exact"))
    assert names(plan) == ["acu", "retrain"]
    assert all(rung.guarantee is Guarantee.EXACT for rung in plan.rungs)
    foreign = make_plan(asking(architecture=known | {"architecture": "resnet"}))
    assert names(foreign) == ["retrain"]


SPECS = st.lists(
    st.builds(
        spec,
        st.from_regex(r"[a-z]{1,6}", fullmatch=True).filter(lambda name: name != "auto"),
        st.sampled_from(Guarantee),
        st.floats(0, 1e15) | st.just(float("nan")),
        targets=st.frozensets(st.sampled_from(KINDS), min_size=1),
        architectures=st.none() | st.just(frozenset({"analytic"})) | st.just(frozenset({"resnet"})),
        needs=st.frozensets(st.sampled_from(NEEDS)),
        fallback=st.booleans(),
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda one: one.name,
)


@given(data=st.data(), specs=SPECS)
def test_ladder_keeps_its_promises_whatever_is_installed(data, specs):
    method = data.draw(st.just("auto") | st.sampled_from([one.name for one in specs]))
    asked = asking(
        target_kind=data.draw(st.sampled_from(KINDS)),
        guarantee=data.draw(st.sampled_from(ASKED)),
        method=method,
        available=data.draw(st.frozensets(st.sampled_from(NEEDS))),
    )
    with pytest.MonkeyPatch.context() as patch:
        install(patch, *specs)
        try:
            plan = make_plan(asked)
        except PlanningError:
            with pytest.raises(PlanningError):
                make_plan(asked)
            return
        install(patch, *data.draw(st.permutations(specs)))
        assert make_plan(asked) == plan
    by_name = {one.name: one for one in specs}
    assert {*names(plan), *(entry.method for entry in plan.ruled_out)} == set(by_name)
    assert len(plan.rungs) + len(plan.ruled_out) == len(by_name)
    for rung in plan.rungs:
        chosen = by_name[rung.method]
        assert rung.guarantee is chosen.guarantee
        assert asked.target_kind in chosen.targets
        assert chosen.needs <= asked.available
        assert chosen.architectures is None or "analytic" in chosen.architectures
        if asked.guarantee == "exact":
            assert rung.guarantee is Guarantee.EXACT
        if asked.guarantee == "certified":
            assert STRENGTH[rung.guarantee] <= STRENGTH[Guarantee.CERTIFIED]
        if method != "auto":
            assert rung.method == method
    fallbacks = [by_name[rung.method].fallback for rung in plan.rungs]
    assert fallbacks == sorted(fallbacks)
    assert all(entry.reason for entry in plan.ruled_out)


@given(guarantee=st.sampled_from(ASKED), kind=st.sampled_from(KINDS), forget=st.integers(0, 2000))
def test_plan_survives_json(guarantee, kind, forget):
    known = {"architecture": "analytic", "flops_per_record": 1e6, "flops_to_finish": 1e9}
    asked = asking(architecture=known, guarantee=guarantee, target_kind=kind, forget=forget)
    assert PlanInput.model_validate_json(asked.model_dump_json()) == asked
    plan = make_plan(asked)
    assert Plan.model_validate_json(plan.model_dump_json()) == plan
