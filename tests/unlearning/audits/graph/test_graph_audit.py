"""The audit of graphs, on small networks that have memorised wrong labels, or edges of no community."""

import dataclasses
import json

import pytest
import torch

from models.contracts import ForgetSet
from models.graph.elements import node_record
from models.graph.network import GraphModel
from tests.reference.graph_case import (
    CLASSES,
    audit,
    case,
    communities,
    mislabelled,
    retrain,
    strange_edges,
    train,
)
from unlearning.audits.evidence import Records
from unlearning.audits.forgetting import MARGINS, MEMBERSHIP, POWER, SINGLE
from unlearning.audits.graph.evidence import GraphEvidence, View
from unlearning.audits.independent import external_method
from unlearning.audits.metrics.membership_auc import membership_auc
from unlearning.audits.policy import AuditPolicy
from unlearning.audits.report import Audit, Outcome
from unlearning.audits.suites import get_suite
from unlearning.catalog.spec import Guarantee

DATA, FORGET = mislabelled()
PARENT = train(DATA, "nodes")
RETRAINED = retrain(PARENT, DATA, FORGET, seed=124)
EDGES, FORGET_EDGES = strange_edges()
LINKS = train(EDGES, "edges")
CHECKS = (MARGINS, SINGLE, MEMBERSHIP)


def check(result, name):
    return next(check for check in result.checks if check.name == name)


def check_of(result, view):
    return [check(result, f"{name}, {view}") for name in CHECKS]


@pytest.fixture(scope="module")
def retrained():
    return audit(PARENT, RETRAINED, DATA, FORGET)


@pytest.fixture(scope="module")
def untouched():
    return audit(PARENT, PARENT, DATA, FORGET)


@pytest.fixture(scope="module")
def links():
    return audit(LINKS, LINKS, EDGES, FORGET_EDGES)


def test_a_retrained_model_passes_in_both_views(retrained):
    assert retrained.verdict is Outcome.PASS
    assert [check.name for check in retrained.checks if check.gating] == [
        *(f"{name}, {view}" for view in View for name in CHECKS),
        POWER,
        "change of accuracy",
        "accuracy against retraining",
    ]
    for view in View:
        margins = check_of(retrained, view)[0]
        assert margins.n == len(FORGET.record_ids)
        assert margins.limits[0] < margins.value < margins.limits[1] < margins.anchors["original"]
    assert "in units of their spread" in check_of(retrained, View.REPLAYED)[0].formula
    assert retrained.power.detects
    assert retrained.summary.endswith("The deleted records are not in the published graph.")
    assert retrained.references[0].count == 5


def test_unchanged_weights_fail_in_both_views_for_that_is_what_dropping_alone_leaves(untouched):
    assert untouched.verdict is Outcome.FAIL
    for view in View:
        assert {check.outcome for check in check_of(untouched, view)} == {Outcome.FAIL}
        assert f"{MARGINS}, {view}" in untouched.power.caught_by
    assert "100% of the original's distance is left" in untouched.summary
    assert "The weights are the original's, bit by bit" in untouched.summary


class Behaving(GraphModel):
    """The retrained model on the graph that is left, and the original as soon as it is shown what was deleted."""

    def __init__(self):
        super().__init__(PARENT.config)

    def encode(self, features, message_edges, keys=None):
        # On the graph before the deletion there are more messages than on the one after it.
        whole = len(message_edges.incoming.columns) == DATA.message_edges().shape[1]
        self.chosen = PARENT if whole else RETRAINED
        return self.chosen.encode(features, message_edges, keys)

    def node_logits(self, embeddings):
        return self.chosen.node_logits(embeddings)


def test_what_only_shows_when_the_deleted_data_are_replayed_is_found():
    result = audit(PARENT, Behaving(), DATA, FORGET)
    assert {check.outcome for check in check_of(result, View.AS_IT_STANDS)} == {Outcome.PASS}
    assert {check.outcome for check in check_of(result, View.REPLAYED)} == {Outcome.FAIL}
    assert check(result, "accuracy against retraining").outcome is Outcome.PASS
    assert result.verdict is Outcome.FAIL


class Shifted(GraphModel):
    """The retrained model, but with other scores on the forgotten nodes."""

    def __init__(self, by):
        super().__init__(PARENT.config)
        places = torch.tensor([DATA.node_positions[name.removeprefix("node:")] for name in FORGET.record_ids])
        self.by = torch.zeros(DATA.nodes, len(CLASSES))
        self.by[places, DATA.labels[places]] = by

    def encode(self, features, message_edges, keys=None):
        return RETRAINED.encode(features, message_edges, keys)

    def node_logits(self, embeddings):
        return RETRAINED.node_logits(embeddings) + self.by


def test_forgetting_more_than_retraining_fails_too():
    result = audit(PARENT, Shifted(torch.full((40,), -60.0)), DATA, FORGET)
    for view in View:
        assert "More was forgotten than by retraining" in check_of(result, view)[0].reason
    assert check(result, "accuracy against retraining").outcome is Outcome.PASS
    assert result.verdict is Outcome.FAIL


def test_half_remembered_and_half_destroyed_fails_although_the_mean_is_right():
    result = audit(PARENT, Shifted(90 * torch.tensor([1.0, -1.0]).repeat(20)), DATA, FORGET)
    margins, single, _ = check_of(result, View.AS_IT_STANDS)
    assert margins.outcome is Outcome.PASS
    assert single.outcome is Outcome.FAIL
    assert result.verdict is Outcome.FAIL


class Constant(GraphModel):
    """Gives every class the same logit, or what is no number."""

    def __init__(self, value, config=PARENT.config):
        super().__init__(config)
        self.value = value

    def encode(self, features, message_edges, keys=None):
        return torch.full((features.shape[0], self.config.hidden[-1]), self.value)


def test_a_ruined_model_fails():
    result = audit(PARENT, Constant(0.0), DATA, FORGET)
    assert result.verdict is Outcome.FAIL
    assert check(result, "accuracy against retraining").outcome is Outcome.FAIL


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_scores_that_are_no_numbers_are_inconclusive_and_no_figure_stands_in(value):
    result = audit(LINKS, Constant(value, LINKS.config), EDGES, FORGET_EDGES)
    assert result.verdict is Outcome.INCONCLUSIVE
    for view in View:
        for one in check_of(result, view):
            assert one.value is None
            assert "not finite" in one.reason
    assert check(result, "change of AUC").value is None
    assert check(result, "change of AUC").outcome is Outcome.INCONCLUSIVE
    assert result.power is None


def test_what_is_no_graph_network_is_inconclusive_with_the_reason():
    class Bare:
        architecture = "bare"
        config = PARENT.config

    result = audit(PARENT, Bare(), DATA, FORGET)
    assert result.verdict is Outcome.INCONCLUSIVE
    assert all("Bare is no graph network" in check.reason for check in result.checks if check.name != POWER)
    assert all(check.value is None for check in result.checks)
    assert result.distributions == ()


def test_usefulness_above_retraining_beyond_the_margin_fails():
    data = communities("nodes")
    known = data.training_nodes()
    # Nearly all labels go, so that a retrained model knows next to nothing.
    forget = ForgetSet(
        tuple(sorted(node_record(data.node_ids[place]) for place in known[: len(known) - 6].tolist()))
    )
    parent = train(data, "nodes")
    result = audit(parent, parent, data, forget)
    against = check(result, "accuracy against retraining")
    assert against.limits == (-0.05, 0.05)
    assert against.outcome is Outcome.FAIL
    assert "is above retraining's by more than 5%" in against.reason


def test_what_is_missing_makes_it_inconclusive_with_the_reason():
    for result, reason in (
        (
            audit(PARENT, RETRAINED, DATA, FORGET, policy=AuditPolicy(reference="never")),
            "allows no retrained",
        ),
        (audit(PARENT, RETRAINED, DATA, ForgetSet(FORGET.record_ids[:3])), "Only 3 of the forgotten"),
        (audit(PARENT, PARENT, DATA, ForgetSet()), "Only 0 of the forgotten"),
    ):
        assert result.verdict is Outcome.INCONCLUSIVE
        assert all(
            reason in one.reason and one.value is None for view in View for one in check_of(result, view)
        )
        assert reason in result.summary


def test_a_graph_without_an_audit_half_cannot_be_audited():
    data = dataclasses.replace(DATA, held_out_nodes=torch.zeros(DATA.nodes, dtype=torch.bool))
    result = audit(PARENT, RETRAINED, data, FORGET)
    assert result.verdict is Outcome.INCONCLUSIVE
    assert "no held-out records" in result.summary


def test_retraining_is_exact_and_gated_on_usefulness_alone():
    method = dataclasses.replace(external_method("graph", Guarantee.EXACT), name="retrain", fallback=True)
    result = audit(PARENT, RETRAINED, DATA, FORGET, method=method)
    assert [check.name for check in result.checks if check.gating] == ["change of accuracy"]
    assert result.verdict is Outcome.PASS
    assert result.references == ()
    ruined = audit(PARENT, Constant(0.0), DATA, FORGET, method=method)
    assert ruined.verdict is Outcome.FAIL


def test_an_exact_method_without_a_certificate_cannot_pass():
    result = audit(PARENT, RETRAINED, DATA, FORGET, method=external_method("graph", Guarantee.EXACT))
    assert result.verdict is Outcome.INCONCLUSIVE


def test_a_class_that_is_forgotten_whole():
    data = communities("nodes")
    ids = tuple(
        sorted(node_record(data.node_ids[place]) for place in (data.labels == 1).nonzero().flatten().tolist())
    )
    forget = ForgetSet(ids, ("node:cat",))
    parent = train(data, "nodes")
    caught, passed = (audit(parent, one, data, forget) for one in (parent, retrain(parent, data, forget)))
    assert caught.verdict is Outcome.FAIL
    assert passed.verdict is Outcome.PASS
    assert "accuracy of the class cat" not in {check.name for check in passed.checks}


def test_edges_that_nobody_can_tell_can_never_pass(links):
    assert not links.power.detects
    assert links.verdict is Outcome.INCONCLUSIVE
    assert check(links, POWER).outcome is Outcome.INCONCLUSIVE


def test_every_figure_for_information_stands_beside_its_reference(untouched, links):
    for result, names in (
        (
            untouched,
            {
                "cross-entropy on forgotten records, as it stands",
                "cross-entropy on forgotten records, replayed",
                *(f"accuracy of the class {name}" for name in CLASSES),
            },
        ),
        (
            links,
            {
                "Et",
                "Ed",
                "deleted edges against pairs without an edge",
                "presence-probability ratio",
                "AUC of the class within",
                "AUC of the class across",
            },
        ),
    ):
        informing = {check.name: check for check in result.checks if not check.gating}
        names |= {
            "Kolmogorov-Smirnov p",
            "Kolmogorov-Smirnov p, replayed",
            "RMIA AUC",
            "activation distance",
            "Jensen-Shannon divergence",
            "Jensen-Shannon divergence, never seen",
            "flipped predictions",
            "weight distance",
            "privacy of retained records",
        }
        assert names <= informing.keys()
        for name in names:
            assert informing[name].value is not None, informing[name].reason
            assert informing[name].reference is not None
            assert informing[name].n
            assert informing[name].reason.startswith("For information")


def test_et_and_ed_are_those_of_the_graph_that_is_left(links):
    data, rest = EDGES, EDGES.without(FORGET_EDGES.record_ids)
    embeddings = LINKS.embeddings(rest)
    seen = GraphEvidence(case(LINKS, LINKS, EDGES, FORGET_EDGES), View.AS_IT_STANDS)
    negatives = LINKS.edge_logits(embeddings, seen.negatives.places)
    edges = LINKS.edge_logits(embeddings, data.audit_edges())
    assert check(links, "Et").value == pytest.approx(membership_auc(edges, negatives).value, abs=1e-6)
    retained = LINKS.edge_logits(embeddings, seen.sets[Records.RETAINED].places)
    deleted = LINKS.edge_logits(embeddings, seen.sets[Records.FORGOTTEN].places)
    ed = check(links, "Ed")
    assert ed.value == pytest.approx(membership_auc(retained, deleted).value, abs=1e-6)
    assert f"{ed.value - ed.reference:+.4f} from the retrained models' mean" in ed.reason
    assert ed.anchors["original's weights"] == ed.value
    assert ed.anchors["original"] < ed.value  # as served, with the messages of the deleted edges


def test_flipped_predictions_are_counted_on_other_nodes(untouched):
    references = case(PARENT, PARENT, DATA, FORGET).references.retrained().models
    rest = DATA.without(FORGET.record_ids)
    ours, *theirs = (
        model.node_logits(model.embeddings(rest)).argmax(dim=1) for model in (PARENT, *references)
    )
    expected = sum(float((ours != one).double().mean()) for one in theirs) / len(theirs)
    found = check(untouched, "flipped predictions")
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert found.n == rest.nodes


def test_an_audit_changes_none_of_the_models_it_reads_and_repeats_itself(retrained):
    before = [
        {name: one.clone() for name, one in model.state_dict().items()} for model in (PARENT, RETRAINED)
    ]
    random = torch.get_rng_state()
    again = audit(PARENT, RETRAINED, DATA, FORGET)
    assert torch.equal(torch.get_rng_state(), random)
    for model, weights in zip((PARENT, RETRAINED), before, strict=True):
        assert all(torch.equal(model.state_dict()[name], one) for name, one in weights.items())
    ignored = {"seconds": True, "references": True}
    assert again.model_dump(exclude=ignored) == retrained.model_dump(exclude=ignored)


def test_nothing_that_is_kept_names_a_node(retrained):
    text = retrained.model_dump_json()
    assert not set(json.dumps(json.loads(text)).replace('"', " ").replace(",", " ").split()) & set(
        DATA.node_ids
    )
    assert Audit.model_validate_json(text) == retrained


def test_pictures_count_every_set_under_every_model(retrained, links):
    found = {(one.records, one.model) for one in retrained.distributions}
    assert found == {
        (records, model)
        for records in ("forgotten", "retained", "never seen")
        for model in ("original", "candidate", "retrained", "random")
    }
    assert {one.score for one in retrained.distributions} == {"margin"}
    assert {one.score for one in links.distributions} == {"log-odds"}
    assert len(retrained.strata) == 2


def test_the_suite_is_registered():
    assert get_suite("graph").__module__ == "unlearning.audits.graph.suite"
