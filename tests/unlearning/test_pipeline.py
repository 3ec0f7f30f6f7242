import dataclasses
import logging

import pytest
import torch

from models.classifier import runtime
from models.contracts import ForgetSet
from models.errors import CheckpointError
from tests.reference.classifier_data import clusters, silent
from unlearning import pipeline
from unlearning.audits.policy import AuditPolicy
from unlearning.audits.references import InMemoryReferences
from unlearning.audits.report import Outcome
from unlearning.catalog.classifier import ACU
from unlearning.catalog.spec import Guarantee
from unlearning.errors import MethodError
from unlearning.pipeline import run_plan, run_update
from unlearning.planner import Plan, PlanInput, Rung, make_plan

DATA = clusters(60, held_out=200)
FORGET = ForgetSet(("r0", "r1", DATA.audit().ids[0], DATA.calibration().ids[0]))
DEFAULT = AuditPolicy()
RECIPE = {"feature_dim": 24, "max_records": 1000}
MODEL = runtime.train(DATA, RECIPE, seed=1, progress=silent)
REFIT = runtime.train(DATA.without(FORGET.record_ids), RECIPE, seed=1, progress=silent)


def plan(*names: str) -> Plan:
    """Make the planner's own ladder, with these methods in this order."""
    rungs = make_plan(
        PlanInput(
            family="classifier",
            architecture=dict(runtime.describe(MODEL)),
            target_kind="records",
            records=60,
            forget=2,
        )
    ).rungs
    known = {rung.method: rung for rung in rungs}
    return Plan(
        rungs=tuple(known.get(name) or rungs[0].model_copy(update={"method": name}) for name in names),
        ruled_out=(),
    )


def run(*names, data=DATA, forget=FORGET, policy=DEFAULT, seed=3, progress=silent):
    return run_plan(
        runtime,
        MODEL,
        data,
        forget,
        plan(*names),
        reload=lambda: MODEL,
        policy=policy,
        references=InMemoryReferences(),
        seed=seed,
        progress=progress,
    )


@pytest.fixture
def method(monkeypatch):
    """Put a function into the catalog as a method called `stranger`."""

    def install(function, **changes):
        spec = dataclasses.replace(ACU, name="stranger", **changes)
        load = type(spec).load
        monkeypatch.setattr(
            type(spec), "load", lambda self: function if self.name == "stranger" else load(self)
        )
        real = pipeline.get_method
        monkeypatch.setattr(
            pipeline, "get_method", lambda family, name: spec if name == "stranger" else real(family, name)
        )

    return install


def test_the_first_rung_that_passes_is_chosen_and_later_ones_are_not_tried():
    result = run("acu", "retrain")
    assert result.chosen is result.rungs[0]
    assert [rung.method for rung in result.rungs] == ["acu"]
    assert result.chosen.audit.verdict is Outcome.PASS
    assert result.chosen.guarantee == "exact"
    assert result.chosen.configuration["solve"] == "fresh"
    assert result.chosen.failure is None
    assert result.chosen.seconds >= result.chosen.audit.seconds + result.chosen.audit.unlearning_seconds
    assert result.model.statistics.equal(REFIT.statistics)
    assert torch.equal(result.model.head, REFIT.head)
    assert MODEL.statistics.records == 60


def test_the_planners_ladder_runs_as_it_is():
    assert run_plan(
        runtime,
        MODEL,
        DATA,
        FORGET,
        plan("acu", "retrain"),
        reload=lambda: MODEL,
        policy=AuditPolicy(on_inconclusive="review"),
        references=InMemoryReferences(),
        seed=0,
        progress=silent,
    ).chosen


def test_a_rung_that_fails_its_audit_is_followed_by_the_next_which_starts_from_the_parent(method):
    seen = []

    def forgets_nothing(model, data, forget, config, *, generator, progress):
        seen.append((model, len(data.audit()), forget, generator.initial_seed()))
        return model

    method(forgets_nothing)
    result = run("stranger", "acu")
    assert result.rungs[0].audit.verdict is Outcome.FAIL
    assert result.chosen is result.rungs[1]
    assert torch.equal(result.model.head, REFIT.head)
    ((model, audited, forget, seed),) = seen
    assert model is MODEL
    assert audited == 0
    assert seed == 3
    hidden = set(DATA.audit().ids)
    assert forget.record_ids == tuple(name for name in FORGET.record_ids if name not in hidden)
    assert set(FORGET.record_ids) & hidden


def test_a_method_that_changes_its_input_spoils_nothing_but_its_own_rung(method):
    def clears_the_head(model, data, forget, config, *, generator, progress):
        model.head.zero_()
        return model

    method(clears_the_head)

    def parent() -> object:
        return runtime.train(DATA, RECIPE, seed=1, progress=silent)

    spoiled = parent()
    result = run_plan(
        runtime,
        spoiled,
        DATA,
        FORGET,
        plan("stranger", "acu"),
        reload=parent,
        policy=AuditPolicy(),
        references=InMemoryReferences(),
        seed=0,
        progress=silent,
    )
    assert not spoiled.head.any()
    assert result.chosen is result.rungs[1]
    assert torch.equal(result.model.head, REFIT.head)


def test_a_method_that_raises_is_recorded_and_never_becomes_a_result(method, caplog):
    def breaks(*_, **__):
        raise ZeroDivisionError("secret-record-id")

    method(breaks)
    with caplog.at_level(logging.WARNING):
        result = run("stranger", "acu")
    assert result.rungs[0].audit is None
    assert result.rungs[0].failure == "It raised ZeroDivisionError."
    assert result.chosen.method == "acu"
    assert "ZeroDivisionError" in caplog.text
    assert "secret-record-id" not in caplog.text


def test_an_audit_that_raises_fails_its_rung(method, monkeypatch):
    monkeypatch.setattr(pipeline, "get_suite", lambda _: 1 / 0)
    result = run("acu", "retrain")
    assert result.model is None
    assert result.chosen is None
    assert [rung.failure for rung in result.rungs] == ["It raised ZeroDivisionError."] * 2


def test_a_refusal_is_recorded_in_its_own_words(method):
    def refuses(*_, **__):
        raise MethodError("It cannot be done.")

    method(refuses)
    assert run("stranger").rungs[0].failure == "It cannot be done."


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("no more"),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes."
        ),
        torch.OutOfMemoryError("no more"),
    ],
)
def test_running_out_of_memory_is_not_a_rungs_failure(method, error):
    def swells(*_, **__):
        raise error

    method(swells)
    with pytest.raises(MemoryError):
        run("stranger", "acu")


def test_what_torch_says_when_memory_runs_out_is_recognised(method):
    def swells(*_, **__):
        return torch.empty(1 << 50, dtype=torch.float64)

    method(swells)
    with pytest.raises(MemoryError):
        run("stranger", "acu")


def almost(model, data, forget, config, *, generator, progress):
    return REFIT


@pytest.mark.parametrize(
    ("on_inconclusive", "chosen", "tried"),
    [("escalate", "acu", 2), ("review", None, 1), ("accept", "stranger", 1)],
)
def test_an_audit_that_cannot_decide_leads_where_it_is_told_to(method, on_inconclusive, chosen, tried):
    method(almost, guarantee=Guarantee.EMPIRICAL)
    result = run("stranger", "acu", policy=AuditPolicy(on_inconclusive=on_inconclusive))
    assert result.rungs[0].audit.verdict is Outcome.INCONCLUSIVE
    assert (result.chosen.method if result.chosen else None) == chosen
    assert (result.model is None) == (chosen is None)
    assert len(result.rungs) == tried


def test_a_failed_audit_is_never_accepted(method):
    method(lambda model, *_, **__: model)
    assert run("stranger", policy=AuditPolicy(on_inconclusive="accept")).chosen is None


def test_the_end_of_the_ladder_is_nothing_chosen(method):
    method(almost, guarantee=Guarantee.EMPIRICAL)
    result = run("stranger")
    assert result.model is None
    assert len(result.rungs) == 1


def test_records_that_are_nowhere_fail_every_rung():
    result = run("acu", "retrain", forget=ForgetSet(("nobody", "r1")))
    assert result.chosen is None
    assert [rung.failure for rung in result.rungs] == ["1 of the records to forget are not in the data."] * 2


def test_everything_forgotten_is_refused_by_every_rung():
    result = run("acu", "retrain", forget=ForgetSet(tuple(sorted(DATA.ids))))
    assert result.chosen is None
    assert all(rung.failure for rung in result.rungs)


def test_a_held_out_subject_alone_leaves_the_same_bits():
    result = run("acu", forget=ForgetSet(("r60", "r61")))
    assert result.chosen
    assert torch.equal(result.model.head, MODEL.head)


def test_progress_names_the_method():
    stages = []
    run("acu", progress=lambda stage, step, of, *_: stages.append((stage, step <= of)))
    assert all(stage.startswith("acu: ") and sane for stage, sane in stages)
    assert {"acu: solving the head", "acu: auditing"} <= {stage for stage, _ in stages}


def test_a_method_that_is_not_installed_fails_its_rung():
    rung = Rung(
        method="gone",
        guarantee=Guarantee.EXACT,
        parameters={},
        reason="",
        estimated_flops=1,
        estimated_seconds=1,
    )
    result = run_plan(
        runtime,
        MODEL,
        DATA,
        FORGET,
        Plan(rungs=(rung,), ruled_out=()),
        reload=lambda: MODEL,
        policy=AuditPolicy(),
        references=InMemoryReferences(),
        seed=0,
        progress=silent,
    )
    assert "no method 'gone'" in result.rungs[0].failure


def test_an_update_learns_what_is_new_unlearns_what_is_gone_and_is_audited():
    grown = clusters(80, held_out=200).without(("r3", "r4"))
    updated, made = run_update(runtime, MODEL, DATA, grown, seed=0, progress=silent)
    fresh = runtime.train(grown, RECIPE, seed=1, progress=silent)
    assert updated.statistics.equal(fresh.statistics)
    assert torch.equal(updated.head, fresh.head)
    assert made.method == "acu"
    assert made.audit.verdict is Outcome.PASS


def test_an_update_that_fails_its_audit_is_no_result(monkeypatch):
    monkeypatch.setattr(pipeline, "load_object", lambda _: lambda model, *_, **__: model)
    with pytest.raises(MethodError, match="did not pass its audit"):
        run_update(runtime, MODEL, DATA, DATA.without(("r3",)), seed=0, progress=silent)


def skipped(result):
    return {rung.method: rung.reason for rung in result.skipped}


def failing(*_, **__):
    raise MethodError("It cannot be done.")


def test_methods_beyond_the_policys_number_are_left_out_and_retraining_is_not(method):
    method(failing)
    result = run("stranger", "acu", "retrain", policy=AuditPolicy(max_rungs=1))
    assert [rung.method for rung in result.rungs] == ["stranger", "retrain"]
    assert result.chosen.method == "retrain"
    assert skipped(result) == {"acu": "The policy allows 1 methods before the last resort."}


def test_no_method_begins_after_the_policys_time_but_retraining_does(method):
    method(failing)
    result = run("stranger", "acu", "retrain", policy=AuditPolicy(max_seconds=0.0))
    assert result.chosen.method == "retrain"
    assert skipped(result).keys() == {"stranger", "acu"}
    assert "0 s for the ladder were spent" in skipped(result)["acu"]


def test_a_policy_without_retraining_ends_with_nothing_chosen_and_everything_measured(method):
    method(lambda model, *_, **__: model)
    result = run("stranger", "retrain", policy=AuditPolicy(allow_retrain=False))
    assert result.chosen is result.model is None
    assert [rung.audit.verdict for rung in result.rungs] == [Outcome.FAIL]
    assert result.best[1] is result.rungs[0]
    assert skipped(result) == {"retrain": "The policy does not allow retraining."}


def test_a_parent_that_can_no_longer_be_loaded_fails_the_rungs_that_need_it(method):
    method(failing)

    def damaged():
        raise CheckpointError("The tensor head is missing.")

    result = run_plan(
        runtime,
        MODEL,
        DATA,
        FORGET,
        plan("stranger", "acu"),
        reload=damaged,
        policy=DEFAULT,
        references=InMemoryReferences(),
        seed=0,
        progress=silent,
    )
    assert [rung.failure for rung in result.rungs] == ["It cannot be done.", "The tensor head is missing."]
    assert result.chosen is None


def test_what_a_method_reports_becomes_curves_of_its_audit_alone(method):
    def talks(model, data, forget, config, *, generator, progress):
        for step in range(3):
            progress("ascending", step, 3, {"forget loss": float(step), "broken": float("nan")})
        progress("done", 3, 3)
        return model

    method(talks)
    steps = []
    result = run("stranger", "acu", progress=lambda *step: steps.append(step))
    [curve] = result.rungs[0].audit.curves
    assert (curve.name, curve.steps, curve.values) == ("ascending: forget loss", (0, 1, 2), (0.0, 1.0, 2.0))
    assert result.rungs[1].audit.curves == ()
    assert ("stranger: ascending", 2, 3) in steps


def test_a_talkative_method_leaves_a_curve_of_bounded_length(method):
    def talks(model, data, forget, config, *, generator, progress):
        for step in range(5000):
            progress("ascending", step, 5000, {"loss": float(step)})
        return model

    method(talks)
    [curve] = run("stranger").rungs[0].audit.curves
    assert pipeline.MOST_CURVE_POINTS / 2 <= len(curve.steps) <= pipeline.MOST_CURVE_POINTS
    assert list(curve.steps) == sorted(curve.steps)
    assert all(step == value for step, value in zip(curve.steps, curve.values, strict=True))
    assert curve.steps[-1] > 4900
