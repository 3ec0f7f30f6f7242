import torch

from tests.reference.small_graph_case import (
    LINKS,
    NODES,
    SPECS,
    drawn_graph,
    forget,
    same_bits,
    trained,
    usual,
)
from unlearning.catalog.spec import Guarantee


def test_every_weight_stays_as_it_was_and_the_result_is_a_model_of_its_own():
    for task in (LINKS, NODES):
        result = forget("drop_edges", task=task)
        assert same_bits(result, trained(task))
        assert result is not trained(task)


def test_what_is_dropped_carries_no_messages_any_more():
    data, model = drawn_graph(LINKS), forget("drop_edges")
    gone = data.elements(usual(LINKS)).edges
    before = model.edge_logits(trained(LINKS).embeddings(data), gone)
    after = model.edge_logits(model.embeddings(data.without(usual(LINKS))), gone)
    assert not torch.equal(before, after)


def test_it_says_that_it_promises_nothing_of_the_weights():
    spec = SPECS["drop_edges"]
    assert spec.guarantee is Guarantee.EMPIRICAL
    assert "no guarantee of any kind for the weights" in spec.summary
