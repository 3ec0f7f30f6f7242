import pytest
import torch
from torch.nn import functional

from tests.reference.small_graph_case import LINKS, NODES, drawn_graph, forget, trained, usual


@pytest.mark.parametrize("task", [LINKS, NODES])
def test_the_first_step_is_one_of_training_on_the_retained_graph(task):
    figures = []
    forget(
        "finetune", task=task, calibration="paper", epochs=1, progress=lambda *step: figures.append(step[3])
    )
    assert figures[0]["retained loss"] > 0


def test_the_retained_loss_of_nodes_falls():
    def loss(model):
        retained = drawn_graph(NODES).without(usual(NODES))
        known = retained.training_nodes()
        logits = model.node_logits(model.embeddings(retained)[known])
        return functional.cross_entropy(logits, retained.labels[known]).item()

    tuned = forget("finetune", task=NODES, calibration="paper", epochs=40, learning_rate=1e-3)
    assert loss(tuned) < loss(trained(NODES))


def test_its_steps_draw_from_the_generator_alone():
    state = torch.get_rng_state()
    one, other = (forget("finetune", seed=seed, calibration="paper", epochs=2) for seed in (1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert any(
        not torch.equal(mine, theirs)
        for mine, theirs in zip(one.parameters(), other.parameters(), strict=True)
    )
