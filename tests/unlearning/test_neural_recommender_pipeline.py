"""A trained recommender through the whole ladder: planner, methods, audits against retrained references, retraining."""

import pytest

from models.contracts import ForgetSet
from models.recommender import runtime
from tests.reference.classifier_data import silent
from tests.reference.recommender_case import DATA, FORGOTTEN, MODELS, same_bits
from tests.unlearning.methods.recommender.test_network_methods import pretrained
from unlearning.audits.policy import AuditPolicy
from unlearning.audits.references import InMemoryReferences
from unlearning.audits.report import Outcome
from unlearning.pipeline import run_plan
from unlearning.planner import PlanInput, make_plan


def run(model, **fields):
    asked = PlanInput(
        family="recommender",
        architecture=dict(runtime.describe(model)),
        target_kind="interactions",
        records=len(DATA.training()),
        forget=len(FORGOTTEN),
        **fields,
    )
    return run_plan(
        runtime,
        model,
        DATA,
        ForgetSet(FORGOTTEN),
        make_plan(asked),
        reload=lambda: model,
        policy=AuditPolicy(retrained_seeds=3),
        references=InMemoryReferences(),
        seed=4,
        progress=silent,
    )


@pytest.fixture(scope="module")
def ladder():
    return run(pretrained("lightgcn"))


def test_the_ladder_ends_in_a_model_that_passes_its_audit(ladder):
    assert ladder.chosen.audit.verdict is Outcome.PASS
    assert ladder.model.architecture == "lightgcn"
    assert not same_bits(ladder.model, MODELS["lightgcn"])


def test_every_rung_is_audited(ladder):
    assert {rung.method for rung in ladder.rungs} <= {"finetune", "unlearnrec", "retrain"}
    assert all(rung.audit is not None for rung in ladder.rungs)


def test_without_an_encoder_unlearnrec_declines_and_says_why():
    result = run(MODELS["lightgcn"], method="unlearnrec")
    assert result.chosen is None
    assert "No Influence Encoder" in result.rungs[0].failure
