import pytest
import torch

from models.graph import architectures
from models.graph.elements import node_record
from tests.reference.classifier_data import silent
from tests.reference.small_graph_case import (
    ARCHITECTURES,
    LINKS,
    NODES,
    drawn_graph,
    forget,
    same_bits,
    trained,
    usual,
)
from unlearning.catalog.graph import RetrainConfig
from unlearning.errors import MethodError
from unlearning.methods.graph import retrain


@pytest.mark.parametrize("task", [LINKS, NODES])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_is_training_on_what_remains(task, architecture):
    remaining = drawn_graph(task).for_methods().without(usual(task))
    expected = architectures.retrain(trained(task, architecture), remaining, seed=3, progress=silent)
    assert same_bits(forget("retrain", task=task, architecture=architecture), expected)


def test_an_update_trains_on_the_new_snapshot():
    data = drawn_graph(NODES).for_methods()
    target = data.without(usual(NODES))
    generator = torch.Generator().manual_seed(3)
    updated = retrain.update(
        trained(NODES), data, target, RetrainConfig(), generator=generator, progress=silent
    )
    assert same_bits(updated, forget("retrain", task=NODES))


def test_a_graph_left_without_training_nodes_is_refused():
    data = drawn_graph(NODES)
    everybody = tuple(node_record(data.node_ids[place]) for place in data.training_nodes().tolist())
    with pytest.raises(MethodError, match="no training nodes"):
        forget("retrain", everybody, task=NODES)
