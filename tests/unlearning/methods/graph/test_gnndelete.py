import dataclasses
from itertools import pairwise

import pytest
import torch

from models.contracts import ForgetSet
from models.graph import architectures, runtime
from models.graph.adjacency import adjacency_of
from models.graph.configuration import ARCHITECTURES
from models.graph.deletion import Deletion, node_keys
from models.graph.elements import node_record
from models.graph.refresh import LayerCache
from tests.reference.classifier_data import silent
from tests.reference.little_graphs import edges_at, little_graph, little_model, some_of_each
from unlearning.catalog.graph import GnnDeleteConfig
from unlearning.errors import MethodError, MethodUnsuitableError
from unlearning.methods.graph import gnndelete
from unlearning.methods.graph.surroundings import Retained, strangers

QUICK = {"calibration": "paper", "epochs": 20, "learning_rate": 0.01}


def seeded(seed=7):
    return torch.Generator().manual_seed(seed)


def delete(model, data, forget, *, seed=7, progress=silent, **parameters):
    config = GnnDeleteConfig(**{**QUICK, **parameters})
    return gnndelete.run(model, data, forget, config, generator=seeded(seed), progress=progress)


def bits(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def apart(one, other, data):
    """How far two models' embeddings are apart, as a share of the larger ones."""
    mine, theirs = one.embeddings(data), other.embeddings(data)
    return float((mine - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize("order", ["together", "in_turn"])
def test_the_parent_stays_as_it_was_and_the_seed_decides(order):
    data = little_graph()
    model, forget = little_model(data), some_of_each(data)
    before = bits(model)
    first, again, other = (delete(model, data, forget, order=order, seed=seed) for seed in (1, 1, 2))
    assert same(bits(model), before)
    assert same(bits(first), bits(again))
    assert not same(bits(first), bits(other))


def test_the_order_of_the_forget_set_is_irrelevant():
    data = little_graph()
    model, forget = little_model(data), some_of_each(data)
    turned = ForgetSet(forget.record_ids[::-1])
    assert same(bits(delete(model, data, forget)), bits(delete(model, data, turned)))


@pytest.mark.parametrize("calibration", ["validation", "paper"])
def test_an_empty_forget_set_gives_back_the_same_bits(calibration):
    data = little_graph()
    model = little_model(data)
    result = delete(model, data, ForgetSet(), calibration=calibration)
    assert same(bits(result), bits(model))
    assert result is not model


def test_an_isolated_node_and_a_held_out_edge_leave_nothing_to_learn():
    data = little_graph()
    held_out = torch.zeros_like(data.held_out_edges)
    held_out[0] = True
    data = dataclasses.replace(data, held_out_edges=held_out)
    model = little_model(data)
    lonely = ForgetSet((node_record(data.node_ids[-1]),))
    for forget in (lonely, edges_at(data, 0)):
        assert delete(model, data, forget).deletion_operators is None


def test_what_the_data_lack_is_refused():
    data = little_graph()
    with pytest.raises(MethodError, match="1 of the records to forget are not in the data"):
        delete(little_model(data), data, ForgetSet((node_record("nobody"),)))


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("order", ["together", "in_turn"])
def test_the_neighbourhood_alone_gives_what_the_whole_graph_gives(architecture, order, directed):
    data = little_graph(directed=directed)
    model, forget = little_model(data, architecture), some_of_each(data)
    left = data.without(forget.record_ids)
    nearby, whole = (
        delete(model, data, forget, order=order, scope=scope, calibration="paper")
        for scope in ("local", "full")
    )
    assert apart(nearby, whole, left) < 1e-6
    # Something was learned, or equality would mean nothing.
    assert apart(nearby, model, left) > 1e-3


@pytest.mark.parametrize(("count", "scope"), [(1, "local"), (200, "full")])
def test_left_to_itself_it_looks_how_many_nodes_are_within_reach(count, scope, monkeypatch):
    data = little_graph(nodes=300, edges=330)
    taken = []
    for name in ("nearby", "afresh"):
        original = getattr(Retained, name)

        def note(*given, _original=original, _name=name):
            taken.append(_name)
            return _original(*given)

        monkeypatch.setattr(Retained, name, note)
    delete(little_model(data), data, edges_at(data, *range(-count, 0)))
    assert taken == [{"local": "nearby", "full": "afresh"}[scope]]


def test_nodes_out_of_reach_keep_their_embeddings_to_the_bit():
    data = little_graph(nodes=300, edges=330)
    model, forget = little_model(data), edges_at(data, -1)
    left = data.without(forget.record_ids)
    result = delete(model, data, forget)
    reached = adjacency_of(left).reached(data.edges[:, -1], 2)[-1]
    far = torch.ones(left.nodes, dtype=torch.bool)
    far[reached] = False
    assert 0 < len(reached) < left.nodes
    assert torch.equal(result.embeddings(left)[far], model.embeddings(left)[far])
    assert not torch.equal(result.embeddings(left)[~far], model.embeddings(left)[~far])


def test_a_layers_loss_moves_that_layers_operator_alone():
    """Published, the second loss' gradient stays in the first operator until the next epoch adds its own to it."""
    data = little_graph()
    model, forget = little_model(data), edges_at(data, -1, -2, -3)
    together, in_turn = (
        delete(model, data, forget, order=order).deletion_operators[0] for order in ("together", "in_turn")
    )
    assert torch.equal(together.weight(0), in_turn.weight(0))
    assert not torch.equal(together.weight(1), in_turn.weight(1))


@pytest.mark.parametrize("order", ["together", "in_turn"])
def test_training_goes_down_and_ends(order):
    data = little_graph()
    steps = []
    delete(
        little_model(data),
        data,
        edges_at(data, -1, -2),
        order=order,
        progress=lambda *step: steps.append(step),
    )
    losses = [figures["deletion loss"] for *_, figures in steps]
    assert steps[-1][1] == steps[-1][2] == len(steps)
    assert losses[19] < losses[0]
    if order == "together":
        assert all(later <= earlier + 1e-3 for earlier, later in pairwise(losses))


def test_the_ends_of_a_deleted_edge_move_towards_their_strangers_and_the_others_stay():
    data = little_graph()
    model, forget = little_model(data), edges_at(data, -1)
    graph, elements = adjacency_of(data), data.elements(forget.record_ids)
    retained = Retained.afresh(model, data.features, graph, elements, None)
    drawn = strangers(retained.graph, retained.gone, 2, seeded())
    result = delete(model, data, forget, order="together", epochs=300)
    left = data.without(forget.record_ids)
    was, now = model.embeddings(left), result.embeddings(left)
    ends = retained.ends
    others = retained.graph.reached(ends, 2)[-1]
    others = others[~torch.isin(others, ends)]
    assert (now[ends] - was[drawn]).norm() < 0.7 * (was[ends] - was[drawn]).norm()
    unheld = delete(model, data, forget, order="together", epochs=300, balance=1.0).embeddings(left)
    assert (now[others] - was[others]).norm() < 0.7 * (unheld[others] - was[others]).norm()


def test_nothing_is_differentiated_and_no_weight_takes_gradients(monkeypatch):
    """`module.requires_grad = False` sets an attribute that nobody reads: published, frozen weights took gradients."""

    def refuse(*_args, **_kwargs):
        raise AssertionError("something was differentiated")

    data = little_graph()
    model = little_model(data)
    monkeypatch.setattr(torch.autograd, "grad", refuse)
    monkeypatch.setattr(torch.Tensor, "backward", refuse)
    results = [delete(model, data, some_of_each(data), order=order) for order in ("together", "in_turn")]
    for checked in (model, *results):
        assert all(not weight.requires_grad and weight.grad is None for weight in checked.parameters())
    # Operators are no parameters: whoever trains the model on leaves them alone.
    assert len(list(results[0].parameters())) == len(list(model.parameters()))


def test_training_never_hears_of_what_is_deleted():
    """Published, messages passed along the deleted edges while operators were trained."""
    data = little_graph()
    model, forget = little_model(data), edges_at(data, -1, -2)
    elements = data.elements(forget.record_ids)
    retained = Retained.afresh(model, data.features, adjacency_of(data), elements, None)
    left = data.without(forget.record_ids)
    everyone = torch.arange(data.nodes)
    for layer, outputs in enumerate(model.layer_outputs(left.features, left.message_edges())):
        assert torch.allclose(retained.outputs(layer, everyone), outputs, atol=1e-6)


def test_requests_in_a_row_add_up_and_forget_the_names_of_deleted_nodes():
    data = little_graph()
    model = little_model(data)
    first = edges_at(data, -1, -2)
    one = delete(model, data, first)
    data = data.without(first.record_ids)
    gone = data.node_ids[int(data.edges[0, -1])]
    two = delete(one, data, ForgetSet((node_record(gone),)))
    left = data.without((node_record(gone),))
    assert len(two.deletion_operators) == 2
    assert torch.equal(two.deletion_operators[0].weight(0), one.deletion_operators[0].weight(0))
    assert any(torch.isin(node_keys([gone]), one.deletion_operators[0].keys(layer)) for layer in (0, 1))
    for operators in two.deletion_operators:
        assert not any(torch.isin(node_keys([gone]), operators.keys(layer)) for layer in (0, 1))
    assert apart(two, one, left) > 1e-3


def test_a_second_request_gives_the_same_nearby_and_on_the_whole_graph():
    data = little_graph()
    first, second = edges_at(data, -1, -2), edges_at(data, -3, -4)
    model = delete(little_model(data), data, first)
    data = data.without(first.record_ids)
    second = edges_at(data, -3, -4)
    nearby, whole = (
        delete(model, data, second, order="together", scope=scope) for scope in ("local", "full")
    )
    assert apart(nearby, whole, data.without(second.record_ids)) < 1e-6


def test_a_checkpoint_keeps_the_operators(tmp_path):
    data = little_graph()
    forget = some_of_each(data)
    result = delete(little_model(data), data, forget)
    runtime.save_model(result, tmp_path)
    loaded = runtime.load_model(tmp_path)
    left = data.without(forget.record_ids)
    assert same(bits(loaded), bits(result))
    assert torch.equal(loaded.embeddings(left), result.embeddings(left))
    assert runtime.describe(loaded)["deletions"] == 1


def test_the_only_edge_of_two_nodes_is_forgotten_without_a_neighbourhood():
    data = little_graph()
    pair = torch.tensor([[0], [1]])
    data = dataclasses.replace(
        data,
        edges=pair,
        held_out_edges=torch.zeros(1, dtype=torch.bool),
        relations=torch.zeros(1, dtype=torch.int64),
    )
    result = delete(little_model(data), data, edges_at(data, 0))
    assert all(weight.isfinite().all() for weight in result.state_dict().values())


def test_a_model_with_many_requests_behind_it_is_declined():
    data = little_graph()
    model = delete(little_model(data), data, edges_at(data, -1), most_requests=1)
    data = data.without(edges_at(data, -1).record_ids)
    with pytest.raises(MethodUnsuitableError, match="operators of 1 requests already"):
        delete(model, data, edges_at(data, -1), most_requests=1)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_cache_that_is_kept_between_requests_is_never_stale(architecture):
    data = little_graph()
    model = little_model(data, architecture)
    keys = node_keys(data.node_ids)
    cache = LayerCache.of(model, data)
    for _ in range(3):
        forget = edges_at(data, -1)
        elements = data.elements(forget.record_ids)
        expected = delete(model, data, forget, scope="local", order="in_turn")
        model = gnndelete.delete_locally(
            cache, keys, elements, GnnDeleteConfig(**QUICK), generator=seeded(), progress=silent
        )
        data = data.without(forget.record_ids)
        assert apart(model, expected, data) < 1e-6
        anew = model.embeddings(data)
        assert (cache.embeddings() - anew).abs().max() < 1e-6 * anew.abs().max()
        assert cache.model is model


def test_calibration_stops_before_the_schedule_ends():
    data = little_graph(nodes=200, edges=900)
    generator = seeded(3)
    data = dataclasses.replace(
        data, held_out_edges=torch.rand(data.edges.shape[1], generator=generator) < 0.3
    )
    recipe = {"task": "link_prediction", "epochs": 150, "dropout": 0.0, "weight_decay": 0.0, "patience": 150}
    model = architectures.train(data.training(), recipe, seed=1, progress=silent)
    place = data.held_out_edges.logical_not().nonzero()[:60, 0].tolist()
    steps = []
    delete(
        model,
        data.for_methods(),
        edges_at(data, *place),
        calibration="validation",
        scope="full",
        epochs=300,
        progress=lambda *step: steps.append(step),
    )
    figures = steps[-1][3]
    assert len(steps) < 300
    assert figures["AUC retained vs forgotten edges"] >= figures["AUC retained vs never-seen edges"]


def test_strangers_are_no_neighbours_and_not_gone():
    data = little_graph(nodes=12, edges=40)
    graph = adjacency_of(data)
    gone = torch.tensor([4])
    pairs = strangers(graph, gone, 400, seeded()).reshape(-1, 2).T
    assert not torch.isin(pairs, gone).any()
    linked = torch.zeros(12, 12, dtype=torch.bool)
    linked[data.message_edges()[0], data.message_edges()[1]] = True
    assert not linked[pairs[0], pairs[1]].any()
    assert not (pairs[0] == pairs[1]).any()


def test_a_complete_graph_has_no_strangers():
    ends = torch.triu_indices(5, 5, 1)
    data = little_graph(nodes=5, edges=8)
    count = ends.shape[1]
    data = dataclasses.replace(
        data,
        edges=ends,
        held_out_edges=torch.zeros(count, dtype=torch.bool),
        relations=torch.zeros(count, dtype=torch.int64),
    )
    with pytest.raises(ValueError, match="no strangers"):
        strangers(adjacency_of(data), torch.empty(0, dtype=torch.int64), 3, seeded())


def test_a_rank_one_operator_would_cost_what_embeddings_tell_apart():
    """What the published start does to a network before its first step, and why operators start as the identity here."""
    data = little_graph()
    model = little_model(data)
    keys = node_keys(data.node_ids).sort().values
    start = [torch.ones(width, width) / 1000 for width in model.config.hidden]
    flattened = model.with_deletions([Deletion(start, [keys, keys])]).embeddings(data)
    assert torch.linalg.matrix_rank(model.embeddings(data)) == 4
    assert torch.linalg.matrix_rank(flattened) == 1
    still = [torch.eye(width) for width in model.config.hidden]
    assert torch.equal(
        model.with_deletions([Deletion(still, [keys, keys])]).embeddings(data), model.embeddings(data)
    )
