import pytest
import torch

from models.contracts import ForgetSet
from models.graph.elements import node_record
from tests.reference.small_graph_case import LINKS, NODES, drawn_graph, some_edges, trained, usual
from unlearning.audits.metrics.logit_margin import logit_margins
from unlearning.errors import MethodUnsuitableError
from unlearning.methods.graph.never_seen import NeverSeen, Scores, StoppingRule, shifted_margins
from unlearning.methods.graph.sides import Sides
from unlearning.methods.graph.student import Scene


def prepared(task, asked):
    model, data = trained(task), drawn_graph(task).for_methods()
    sides = Sides.of(model, data, asked)
    scene = Scene.of(model, sides.stage)
    return (
        model,
        sides,
        scene,
        NeverSeen.prepare(model, sides, scene, asked, torch.Generator().manual_seed(0)),
    )


def test_aucs_worked_by_hand():
    """Retained 1, 3; forgotten 0, 2: three of four pairs are in order. Never seen -1, 0: all four are."""
    scores = Scores(torch.tensor([0.0, 2.0]), torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 3.0]))
    assert scores.auc_forgotten == 0.75
    assert scores.auc_never_seen == 1.0
    assert scores.remembered
    assert not Scores(torch.tensor([1.0]), torch.tensor([1.0]), torch.tensor([1.0])).remembered


def test_without_a_picture_it_is_never_enough():
    rule = StoppingRule(None)
    assert not rule.checks
    assert not rule.is_enough(trained(LINKS), torch.zeros(3, 8))


@pytest.mark.parametrize("task", [LINKS, NODES])
def test_a_network_that_knows_what_is_forgotten_has_not_had_enough(task):
    asked = ForgetSet(some_edges(drawn_graph(LINKS), 60) if task == LINKS else usual(NODES))
    model, sides, scene, never_seen = prepared(task, asked)
    rule = StoppingRule(never_seen)
    embeddings = scene.embed(model)
    assert not rule.is_enough(model, embeddings)
    kind = "edges" if task == LINKS else "nodes"
    assert (
        rule.figures[f"AUC retained vs forgotten {kind}"] < rule.figures[f"AUC retained vs never-seen {kind}"]
    )
    blank = embeddings.clone()
    gone = sides.forgotten_edges.unique() if task == LINKS else sides.forgotten_nodes
    if task == LINKS:
        blank[gone] *= -1.0
        blank[sides.forgotten_edges[0]] = -blank[sides.forgotten_edges[1]]
    else:
        blank[gone] = -10 * blank[gone]
    assert rule.is_enough(model, blank)


def test_held_out_items_are_of_the_calibration_half_and_retained():
    data = drawn_graph(LINKS)
    _model, sides, _scene, never_seen = prepared(LINKS, ForgetSet(usual(LINKS)))
    assert torch.equal(never_seen.edges.held_out, data.calibration_edges())
    assert torch.equal(never_seen.edges.held_out, sides.retained.calibration_edges())


def test_a_class_that_goes_whole_is_compared_with_others_under_its_name():
    data = drawn_graph(NODES).for_methods()
    members = (data.labels == 1).nonzero()[:, 0].tolist()
    asked = ForgetSet(tuple(sorted(node_record(data.node_ids[place]) for place in members)), ("node:b",))
    _model, sides, _scene, never_seen = prepared(NODES, asked)
    [likes] = never_seen.nodes
    assert (likes.held_out_labels == 1).all()
    assert not (sides.labels[likes.held_out] == 1).any()


def test_too_few_held_out_items_are_no_picture():
    with pytest.raises(MethodUnsuitableError, match="0 held-out edges for calibration are too few"):
        model, data = trained(LINKS), drawn_graph(LINKS).training()
        asked = ForgetSet(usual(LINKS))
        sides = Sides.of(model, data, asked)
        NeverSeen.prepare(model, sides, Scene.of(model, sides.stage), asked, torch.Generator())


def test_shifted_logits_have_the_margins_that_were_wished():
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    labels, wished = torch.tensor([0, 1, 2, 0, 1]), torch.tensor([-2.0, 0.0, 1.0, 3.0, -5.0])
    shifted = shifted_margins(logits, labels, wished)
    torch.testing.assert_close(logit_margins(shifted, labels).float(), wished)
    kept = torch.ones_like(logits, dtype=torch.bool).scatter(1, labels[:, None], value=False)
    assert torch.equal(shifted[kept], logits[kept])
