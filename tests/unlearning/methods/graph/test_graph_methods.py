"""What holds for every method that moves the shared weights of a graph network, or leaves them alone."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.graph.deletion import Deletion, node_keys
from models.graph.elements import edge_record, node_record
from tests.reference.small_graph_case import (
    ARCHITECTURES,
    LINKS,
    NODES,
    drawn_graph,
    forget,
    same_bits,
    some_edges,
    some_features,
    some_nodes,
    trained,
    usual,
)
from unlearning.errors import MethodError, MethodUnsuitableError
from unlearning.methods.graph import never_seen

MOVING = ("d2dgn", "finetune", "gradient_ascent")
FIXED = {"calibration": "paper", "epochs": 3}
"""A fixed schedule, as calibration may find nothing to do on data this small."""
CASES = list(itertools.product(MOVING, (LINKS, NODES), ARCHITECTURES))


@pytest.mark.parametrize(("method", "task", "architecture"), CASES)
def test_the_model_is_left_as_it_was_and_the_seed_decides(method, task, architecture):
    model = trained(task, architecture)
    held = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    first, again = (forget(method, task=task, architecture=architecture, **FIXED) for _ in range(2))
    assert same_bits(first, again)
    assert not same_bits(first, model)
    assert all(torch.equal(held[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(parameter.requires_grad for parameter in [*first.parameters(), *model.parameters()])
    assert all(parameter.grad is None for parameter in model.parameters())
    assert first.config == model.config
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("method", MOVING)
@given(order=st.permutations(usual(LINKS)))
@settings(max_examples=3, deadline=None)
def test_the_order_of_the_forget_set_is_irrelevant(method, order):
    assert same_bits(forget(method, order, **FIXED), forget(method, **FIXED))


@pytest.mark.parametrize("method", MOVING)
def test_the_number_of_threads_is_irrelevant(method):
    expected = forget(method, task=NODES, **FIXED)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert same_bits(forget(method, task=NODES, **FIXED), expected)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("calibration", ["validation", "paper"])
@pytest.mark.parametrize(("method", "task"), list(itertools.product(MOVING, (LINKS, NODES))))
def test_an_empty_forget_set_gives_back_the_same_bits(method, task, calibration):
    model = trained(task)
    result = forget(method, (), task=task, calibration=calibration)
    assert same_bits(result, model)
    assert result is not model


@pytest.mark.parametrize("method", MOVING)
def test_a_held_out_edge_was_never_learned_so_nothing_moves(method):
    data = drawn_graph(LINKS)
    u, v = data.calibration_edges()[:, 0].tolist()
    record = edge_record(data.node_ids[u], data.node_ids[v], directed=False)
    assert same_bits(forget(method, (record,)), trained(LINKS))


@pytest.mark.parametrize("method", [*MOVING, "drop_edges", "retrain"])
def test_what_the_data_lack_is_refused(method):
    with pytest.raises(MethodError, match="1 of the records to forget are not in the data"):
        forget(method, (*usual(LINKS), node_record("nobody")))


@pytest.mark.parametrize("method", MOVING)
@pytest.mark.parametrize("task", [LINKS, NODES])
def test_every_kind_of_element_is_forgotten(method, task):
    data = drawn_graph(task)
    kinds = [some_edges(data, 4), some_nodes(data, 3), some_features(data)]
    for records in [*kinds, tuple(sorted(itertools.chain(*kinds)))]:
        result = forget(method, records, task=task, **FIXED)
        assert not same_bits(result, trained(task))


@pytest.mark.parametrize(("method", "task"), list(itertools.product(MOVING, (LINKS, NODES))))
def test_everything_at_once_cannot_be_forgotten_and_kept(method, task):
    data = drawn_graph(task)
    everything = some_edges(data, 10_000) if task == LINKS else tuple(map(node_record, data.node_ids))
    if method == "gradient_ascent":
        # It has no use for what is retained; what it does to the model is for the audit to see.
        assert not same_bits(forget(method, everything, task=task, **FIXED), trained(task))
        return
    with pytest.raises(MethodUnsuitableError, match="nothing is left to keep"):
        forget(method, everything, task=task, **FIXED)


@pytest.mark.parametrize(("method", "task"), list(itertools.product(MOVING, (LINKS, NODES))))
def test_without_held_out_items_calibration_declines(method, task):
    with pytest.raises(MethodUnsuitableError, match="held-out"):
        forget(method, task=task, data=drawn_graph(task).training())


@pytest.mark.parametrize("method", MOVING)
def test_a_run_that_leaves_the_numbers_is_an_error(method):
    model = trained(LINKS).frozen()
    for parameter in model.parameters():
        parameter.mul_(1e12)  # inner products of such embeddings are beyond float32
    with pytest.raises(MethodError, match="smaller learning rate"):
        forget(method, model=model, calibration="paper")


@pytest.mark.parametrize("method", MOVING)
def test_progress_ends_and_carries_figures(method):
    steps = []
    forget(method, progress=lambda *step: steps.append(step), **FIXED)
    _stage, step, of, figures = steps[-1]
    assert step == of
    assert figures
    assert all(isinstance(value, float) for value in figures.values())


@pytest.mark.parametrize("method", ["finetune", "gradient_ascent"])
def test_what_already_looks_never_seen_is_declined_with_calibration(method, monkeypatch):
    monkeypatch.setattr(never_seen.Scores, "remembered", False)
    with pytest.raises(MethodUnsuitableError, match="looks to the model like the never seen"):
        forget(method)
    assert not same_bits(forget(method, **FIXED), trained(LINKS))


@pytest.mark.parametrize("method", MOVING)
def test_deletion_operators_of_an_earlier_request_go_along(method):
    data, model = drawn_graph(LINKS), trained(LINKS)
    keys = node_keys(data.node_ids[:10]).sort().values
    widths = model.config.hidden
    earlier = model.with_deletions([Deletion([torch.eye(width) * 0.5 for width in widths], [keys, keys])])
    result = forget(method, model=earlier, **FIXED)
    assert result.deletion_operators is not None
    for mine, theirs in zip(result.deletion_operators, earlier.deletion_operators, strict=True):
        assert torch.equal(mine.weight(0), theirs.weight(0))
    assert not same_bits(result, earlier)
