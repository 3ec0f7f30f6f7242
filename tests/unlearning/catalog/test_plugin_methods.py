"""What the example packages' methods do to models."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from models.architectures import ArchitectureRuntime
from models.classifier import analytic
from models.classifier.data import ClassifierData
from models.contracts import ForgetSet
from models.families import get_family
from unlearning import catalog
from unlearning.audits.policy import AuditPolicy
from unlearning.audits.references import InMemoryReferences
from unlearning.audits.report import Outcome
from unlearning.errors import MethodUnsuitableError
from unlearning.pipeline import run_plan
from unlearning.planner import PlanInput, make_plan

PLUGINS = Path(__file__).parents[2] / "plugins"
CLASSES = ("cat", "dog", "emu")
FORGOTTEN = ForgetSet(record_ids=tuple(f"r{position}" for position in range(1, 30, 3)), classes=("dog",))


def ignore_progress(stage, step, of):
    pass


@pytest.fixture(autouse=True)
def packages(monkeypatch):
    monkeypatch.syspath_prepend(PLUGINS / "expunge_example")
    monkeypatch.syspath_prepend(PLUGINS / "expunge_misbehaving")


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(5)
    labels = torch.arange(30) % 3
    return ClassifierData(
        ids=tuple(f"r{position}" for position in range(30)),
        features=torch.rand(30, 6, dtype=torch.float64, generator=generator) + labels.unsqueeze(1),
        labels=labels,
        held_out=torch.arange(30) >= 24,
        classes=CLASSES,
    )


@pytest.fixture
def analytic_model(data):
    return analytic.train(data, {"feature_dim": 16}, seed=1, progress=ignore_progress)


@pytest.fixture
def centroids() -> ArchitectureRuntime:
    from expunge_example.specs import CENTROIDS

    return CENTROIDS.runtime()


def run(spec, model, data, forget, **parameters):
    return spec.load()(
        model,
        data,
        forget,
        spec.configure(parameters),
        generator=torch.Generator().manual_seed(0),
        progress=ignore_progress,
    )


def test_dropping_a_class_equals_fitting_on_what_remains(centroids, data):
    from expunge_example.specs import DROP_CLASS

    model = centroids.train(data, {}, seed=0, progress=ignore_progress)
    before = model.sums.clone()
    dropped = run(DROP_CLASS, model, data, FORGOTTEN)
    refitted = centroids.retrain(model, data.without(FORGOTTEN.record_ids), seed=0, progress=ignore_progress)
    assert torch.equal(dropped.sums, refitted.sums)
    assert torch.equal(dropped.counts, refitted.counts)
    assert torch.equal(model.sums, before)
    assert 1 not in dropped.predict(data.features).tolist()
    assert (model.predict(data.features) == data.labels).float().mean() > 0.8


def test_dropping_a_class_declines_single_records(centroids, data):
    from expunge_example.specs import DROP_CLASS

    model = centroids.train(data, {}, seed=0, progress=ignore_progress)
    mixed = ForgetSet(record_ids=(*FORGOTTEN.record_ids, "r0"), classes=("dog",))
    with pytest.raises(MethodUnsuitableError):
        run(DROP_CLASS, model, data, mixed)


def test_empty_forget_set_leaves_the_weights_bit_identical(centroids, data, analytic_model):
    from expunge_example.specs import DROP_CLASS, SCALE_DOWN

    model = centroids.train(data, {}, seed=0, progress=ignore_progress)
    assert torch.equal(run(DROP_CLASS, model, data, ForgetSet()).sums, model.sums)
    assert torch.equal(run(SCALE_DOWN, analytic_model, data, ForgetSet()).head, analytic_model.head)


def test_centroids_survive_their_checkpoint(centroids, data, tmp_path):
    model = centroids.train(data, {}, seed=0, progress=ignore_progress)
    centroids.save_model(model, tmp_path)
    again = centroids.load_model(tmp_path, centroids.config(model))
    assert again.classes == model.classes
    assert torch.equal(again.sums, model.sums)
    assert torch.equal(again.counts, model.counts)


def test_scaling_down_shrinks_the_forgotten_column_alone(data, analytic_model):
    from expunge_example.specs import SCALE_DOWN

    before = analytic_model.head.clone()
    scaled = run(SCALE_DOWN, analytic_model, data, FORGOTTEN, factor=0.5)
    assert torch.equal(scaled.head[:, 1], before[:, 1] * 0.5)
    assert torch.equal(scaled.head[:, [0, 2]], before[:, [0, 2]])
    assert torch.equal(analytic_model.head, before)


@pytest.mark.parametrize("how", ["allocate", "allocate_tensors"])
def test_misbehaving_method_spares_a_machine_without_limits(data, analytic_model, how):
    from expunge_misbehaving.specs import MISBEHAVE

    with pytest.raises(RuntimeError, match="nothing stopped the allocation"):
        run(MISBEHAVE, analytic_model, data, FORGOTTEN, how=how, stop_allocating_at=1)


def test_misbehaving_method_does_what_it_is_told(data, analytic_model):
    from expunge_misbehaving.specs import MISBEHAVE

    with pytest.raises(RuntimeError, match="ouch"):
        run(MISBEHAVE, analytic_model, data, FORGOTTEN, how="raise", message="ouch")
    assert run(MISBEHAVE, analytic_model, data, FORGOTTEN, how="return_unchanged") is analytic_model
    assert run(MISBEHAVE, analytic_model, data, FORGOTTEN, how="return_nothing") is None
    before = analytic_model.head.clone()
    assert run(MISBEHAVE, analytic_model, data, FORGOTTEN, how="change_input") is not analytic_model
    assert torch.equal(analytic_model.head, before * 0.5)


def test_method_that_misbehaves_once_retrains_the_second_time(data, analytic_model, tmp_path):
    from expunge_misbehaving.specs import MISBEHAVE

    once = str(tmp_path / "mark")
    with pytest.raises(RuntimeError):
        run(MISBEHAVE, analytic_model, data, FORGOTTEN, once=once)
    retrained = run(MISBEHAVE, analytic_model, data, FORGOTTEN, once=once)
    known = data.without(FORGOTTEN.record_ids)
    refitted = analytic.retrain(analytic_model, known, seed=0, progress=ignore_progress)
    assert torch.equal(retrained.head, refitted.head)


@pytest.fixture
def installed():
    """The packages on the path count as installed during the test, and no longer after it."""
    catalog._catalog.cache_clear()
    yield
    catalog._catalog.cache_clear()


@pytest.mark.parametrize("how", ["raise", "return_unchanged", "return_nothing", "change_input"])
def test_what_a_misbehaving_method_returns_is_never_chosen(installed, data, analytic_model, how):
    runtime = get_family("classifier").runtime()
    asked = PlanInput(
        family="classifier",
        architecture=dict(runtime.describe(analytic_model)),
        target_kind="classes",
        records=len(data),
        forget=len(FORGOTTEN.record_ids),
        guarantee="exact",
        method="misbehave",
        parameters={"how": how},
    )
    result = run_plan(
        runtime,
        analytic_model,
        data,
        FORGOTTEN,
        make_plan(asked),
        reload=lambda: pytest.fail("there is one rung"),
        policy=AuditPolicy(),
        references=InMemoryReferences(),
        seed=0,
        progress=ignore_progress,
    )
    assert result.chosen is None
    (rung,) = result.rungs
    assert rung.failure or rung.audit.verdict is Outcome.FAIL


def test_method_that_kills_itself_takes_its_process_along():
    code = (
        "from expunge_misbehaving.methods import run\n"
        "from expunge_misbehaving.specs import MISBEHAVE\n"
        "config = MISBEHAVE.configure({'how': 'kill_itself'})\n"
        "run(None, None, None, config, generator=None, progress=lambda *_: None)\n"
    )
    environment = {"PYTHONPATH": str(PLUGINS / "expunge_misbehaving")}
    process = subprocess.run([sys.executable, "-c", code], env=environment, check=False, timeout=60)
    assert process.returncode == -signal.SIGKILL
