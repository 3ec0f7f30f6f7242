import dataclasses

import pytest
import torch
from torch.nn import functional

from models.contracts import ForgetSet
from models.graph import architectures
from models.graph.configuration import ARCHITECTURES
from models.graph.elements import edge_record, node_record
from tests.reference.classifier_data import silent
from tests.reference.influence import exact_step
from tests.reference.little_graphs import edges_at, little_graph, little_model, some_of_each
from unlearning.catalog.graph import GifConfig
from unlearning.errors import MethodError, MethodUnsuitableError
from unlearning.methods.graph import gif

NODES = "node_classification"


def forget(model, data, asked, *, progress=silent, **parameters):
    return gif.run(
        model,
        data,
        asked,
        GifConfig(**parameters),
        generator=torch.Generator().manual_seed(0),
        progress=progress,
    )


def bits(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def nodes(data, *places):
    return ForgetSet(tuple(sorted(node_record(data.node_ids[place]) for place in places)))


def flat(model):
    return torch.cat([weight.reshape(-1) for weight in model.parameters()])


@pytest.mark.parametrize("asked", ["nodes", "edges", "each"])
def test_the_step_is_the_exact_solution_of_the_dense_system(asked):
    data = little_graph(nodes=20, edges=40)
    model = little_model(data, task=NODES).double()
    data = dataclasses.replace(data, features=data.features.double())
    forgets = {"nodes": nodes(data, 1, 5, 7), "edges": edges_at(data, 0, 1, 5), "each": some_of_each(data)}
    retained = data.without(forgets[asked].record_ids)
    expected = exact_step(model, data, retained, damping=0.01)
    influence = gif.Influence.of(model, data, retained)
    step = influence.step(0.01, GifConfig(tolerance=1e-10, iterations=2000), silent)
    assert torch.allclose(step, expected, atol=1e-8 * float(expected.abs().max()))
    assert float(expected.abs().max()) > 1e-3
    assert torch.allclose(flat(gif.moved(model, step)), flat(model) + step)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_parent_stays_as_it_was_and_the_result_is_frozen_and_the_same_again(architecture):
    data = little_graph()
    model = little_model(data, architecture, task=NODES)
    before = bits(model)
    first, again = (forget(model, data, some_of_each(data), harm=100) for _ in range(2))
    assert same(bits(model), before)
    assert same(bits(first), bits(again))
    assert not same(bits(first), before)
    for checked in (model, first):
        assert all(not weight.requires_grad and weight.grad is None for weight in checked.parameters())


def test_an_empty_forget_set_gives_back_the_same_bits():
    data = little_graph()
    model = little_model(data, task=NODES)
    result = forget(model, data, ForgetSet())
    assert same(bits(result), bits(model))
    assert result is not model


def test_the_order_of_the_forget_set_is_irrelevant():
    data = little_graph()
    model, asked = little_model(data, task=NODES), some_of_each(data)
    turned = ForgetSet(asked.record_ids[::-1])
    assert same(bits(forget(model, data, asked)), bits(forget(model, data, turned)))


def test_labels_of_held_out_nodes_make_no_difference():
    """Published, the gradient runs over every touched node, test nodes and their labels included."""
    data = little_graph()
    model = little_model(data, task=NODES)
    labels = data.labels.clone()
    labels[data.held_out_nodes] = (labels[data.held_out_nodes] + 1) % 3
    other = dataclasses.replace(data, labels=labels)
    asked = nodes(data, 0, 1, 2)
    assert same(bits(forget(model, data, asked)), bits(forget(model, other, asked)))


def test_nodes_are_found_by_their_ids_and_not_by_their_places_among_training_nodes():
    """Published, the number of a training node is read as a node's id, which deletes other nodes than were asked for."""
    data = little_graph()
    model = little_model(data, task=NODES).double()
    data = dataclasses.replace(data, features=data.features.double())
    order = torch.arange(data.nodes - 1, -1, -1)
    turned = dataclasses.replace(
        data,
        node_ids=data.node_ids[::-1],
        features=data.features[order],
        labels=data.labels[order],
        held_out_nodes=data.held_out_nodes[order],
        edges=(data.nodes - 1 - data.edges).sort(dim=0).values,
    )
    asked = nodes(data, 0, 6, 7)
    one, other = (flat(forget(model, graph, asked, tolerance=1e-6)) for graph in (data, turned))
    assert torch.allclose(one, other, atol=1e-5)


def test_an_edge_counts_by_the_neighbours_that_stay():
    data = little_graph()
    model = little_model(data, task=NODES)
    assert not same(bits(forget(model, data, edges_at(data, 0))), bits(model))


def test_a_trained_model_loses_what_it_knew_of_deleted_nodes_and_keeps_the_rest():
    data = little_graph(nodes=200, edges=400)
    gone = data.training_nodes()[:8]
    recipe = {"task": NODES, "hidden": [32, 16], "epochs": 150, "patience": 150, "dropout": 0.0}
    model = architectures.train(data.training(), recipe, seed=1, progress=silent)
    asked = nodes(data, *gone.tolist())
    left = data.without(asked.record_ids)
    result = forget(model, data.for_methods(), asked)

    def loss(network, graph, places):
        return float(
            functional.cross_entropy(
                network.node_logits(network.embeddings(graph))[places], graph.labels[places]
            )
        )

    assert loss(result, data, gone) > loss(model, data, gone) + 0.05
    kept = left.training_nodes()
    assert loss(result, left, kept) < loss(model, left, kept) + 0.1


def test_a_model_of_links_is_declined():
    data = little_graph()
    with pytest.raises(MethodUnsuitableError, match="predicts links"):
        forget(little_model(data), data, edges_at(data, 0))


def test_everything_at_once_is_declined():
    data = little_graph()
    with pytest.raises(MethodUnsuitableError, match="nothing is left to keep"):
        forget(little_model(data, task=NODES), data, nodes(data, *range(data.nodes)))


def test_what_the_data_lack_is_refused():
    data = little_graph()
    with pytest.raises(MethodError, match="1 of the records to forget are not in the data"):
        forget(little_model(data, task=NODES), data, ForgetSet((edge_record("x", "y", directed=False),)))


def test_weights_that_are_no_numbers_are_refused():
    data = little_graph()
    model = little_model(data, task=NODES)
    next(iter(model.parameters())).fill_(torch.inf)
    with pytest.raises(MethodError, match="no longer a number"):
        forget(model, data, nodes(data, 0))


def test_progress_ends_with_the_tolerance():
    data = little_graph()
    steps = []
    forget(little_model(data, task=NODES), data, nodes(data, 0, 1), progress=lambda *step: steps.append(step))
    _stage, step, of, figures = steps[-1]
    assert step == of
    assert figures["rise of the retained loss"] <= 0.1
    assert any(figures.get("residual", 1.0) <= 0.05 for *_, figures in steps)


def test_a_step_that_would_do_harm_is_shortened_or_not_taken(monkeypatch):
    data = little_graph()
    model, asked = little_model(data, task=NODES), nodes(data, 0, 1)
    dampings = []

    def note(stage, _step, _of, figures=None):
        if stage == "weighing the step":
            dampings.append(figures["damping"])

    forget(model, data, asked, harm=0.01, damping=1e-3, progress=note)
    assert len(dampings) > 1
    monkeypatch.setattr(gif, "MOST_RAISES", 0)
    with pytest.raises(MethodUnsuitableError, match="harm to what is retained"):
        forget(model, data, asked, harm=0.0, damping=1e-6)
