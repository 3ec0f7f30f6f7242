import pytest
import torch
from torch.nn import functional

from models.contracts import ForgetSet
from tests.reference.small_graph_case import LINKS, NODES, drawn_graph, forget, trained, usual
from unlearning.methods.graph.gradient_ascent import forget_loss
from unlearning.methods.graph.sides import Sides
from unlearning.methods.graph.student import Scene


def loss_of(model, task):
    sides = Sides.of(model, drawn_graph(task).for_methods(), ForgetSet(usual(task)))
    return forget_loss(model, Scene.of(model, sides.stage).embed(model), sides).item()


@pytest.mark.parametrize("task", [LINKS, NODES])
def test_the_loss_on_what_is_forgotten_rises(task):
    risen = loss_of(forget("gradient_ascent", task=task, calibration="paper", epochs=10), task)
    assert risen > loss_of(trained(task), task)


def test_the_loss_of_edges_is_that_of_training_on_the_retained_graph():
    data, model = drawn_graph(LINKS).for_methods(), trained(LINKS)
    gone = data.elements(usual(LINKS)).edges
    logits = model.edge_logits(model.embeddings(data.without(usual(LINKS))), gone)
    expected = functional.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))
    assert loss_of(model, LINKS) == pytest.approx(expected.item(), rel=1e-5)


def test_calibrated_ascent_stops_earlier_than_the_fixed_schedule():
    steps = {"validation": 0, "paper": 0}
    for calibration in steps:
        seen = []
        forget(
            "gradient_ascent",
            task=NODES,
            calibration=calibration,
            epochs=200,
            learning_rate=0.01,
            progress=lambda *step, seen=seen: seen.append(step),
        )
        steps[calibration] = len(seen)
    assert 0 < steps["validation"] < steps["paper"] == 200
