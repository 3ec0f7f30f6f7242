"""What every model is shown in either view, against the model's own answers on the graphs themselves."""

import dataclasses

import pytest
import torch

from models.contracts import ForgetSet
from models.graph.deletion import Deletion, node_keys
from models.graph.elements import feature_record
from tests.reference.graph_case import case, communities, mislabelled, strange_edges, train
from unlearning.audits.evidence import Records
from unlearning.audits.graph.evidence import GraphEvidence, View
from unlearning.errors import MetricError

NODES, FORGET_NODES = mislabelled(20)
EDGES, FORGET_EDGES = strange_edges(20)
OF_NODES = train(NODES, "nodes", epochs=10)
OF_EDGES = train(EDGES, "edges", epochs=10)


def evidence(view, *, candidate=None, data=NODES, forget=FORGET_NODES, parent=OF_NODES):
    return GraphEvidence(case(parent, candidate or parent, data, forget), view)


def close(one, other):
    return torch.allclose(one, other.to(torch.float64), atol=1e-5)


def test_replayed_is_the_graph_before_the_deletion():
    seen = evidence(View.REPLAYED)
    logits = OF_NODES.node_logits(OF_NODES.embeddings(NODES))
    for records in Records:
        assert close(seen.original(records).logits, logits[seen.sets[records].places])
        assert torch.equal(seen.original(records).labels, NODES.labels[seen.sets[records].places])


def test_as_it_stands_is_what_the_model_says_of_the_graph_that_is_left():
    seen = evidence(View.AS_IT_STANDS)
    rest = NODES.without(FORGET_NODES.record_ids)
    logits = OF_NODES.node_logits(OF_NODES.embeddings(rest))
    for records in (Records.RETAINED, Records.NEVER_SEEN):
        names = [NODES.node_ids[place] for place in seen.sets[records].places.tolist()]
        here = torch.tensor([rest.node_positions[name] for name in names])
        assert close(seen.candidate(records).logits, logits[here])


def test_a_deleted_node_is_shown_by_its_features_alone():
    seen = evidence(View.AS_IT_STANDS)
    chosen = seen.sets[Records.FORGOTTEN].places
    alone = OF_NODES.encode(NODES.features[chosen], torch.empty(2, 0, dtype=torch.int64))
    assert close(seen.original(Records.FORGOTTEN).logits, OF_NODES.node_logits(alone))


def test_a_deleted_edge_is_scored_without_its_message_and_replayed_with_it():
    now, before = (evidence(view, data=EDGES, forget=FORGET_EDGES, parent=OF_EDGES) for view in View)
    pairs = now.sets[Records.FORGOTTEN].places
    rest = EDGES.without(FORGET_EDGES.record_ids)
    for seen, graph in ((now, rest), (before, EDGES)):
        expected = OF_EDGES.edge_logits(
            OF_EDGES.embeddings(graph), pairs
        )  # no node is gone, so no position moved
        assert close(seen.original(Records.FORGOTTEN).scores, expected)
    assert not close(now.original(Records.FORGOTTEN).scores, before.original(Records.FORGOTTEN).scores)


def test_a_removed_feature_is_missing_and_replayed():
    forget = ForgetSet(tuple(sorted(feature_record(f"n{place}", "f0") for place in range(10))))
    now, before = (evidence(view, forget=forget) for view in View)
    expected = OF_NODES.node_logits(OF_NODES.embeddings(NODES.without(forget.record_ids)))
    assert close(now.original(Records.FORGOTTEN).logits, expected[now.sets[Records.FORGOTTEN].places])
    expected = OF_NODES.node_logits(OF_NODES.embeddings(NODES))
    assert close(before.original(Records.FORGOTTEN).logits, expected[now.sets[Records.FORGOTTEN].places])


def test_deletion_operators_work_on_their_nodes_in_both_views():
    keys = node_keys([NODES.node_ids[place] for place in range(40)]).sort().values
    wiped = OF_NODES.with_deletions([Deletion([torch.zeros(32, 32), torch.zeros(16, 16)], [keys, keys])])
    for view in View:
        seen = evidence(view, candidate=wiped)
        places = seen.sets[Records.FORGOTTEN].places
        bias = OF_NODES.head.bias.expand(int((places < 40).sum()), 3)
        assert close(seen.candidate(Records.FORGOTTEN).logits[places < 40], bias)
        assert not close(seen.candidate(Records.RETAINED).logits, seen.original(Records.RETAINED).logits)


def test_the_candidate_that_is_the_original_is_seen_alike_in_either_view():
    for view in View:
        seen = evidence(view)
        assert torch.equal(seen.candidate(Records.FORGOTTEN).scores, seen.original(Records.FORGOTTEN).scores)


def test_margins_of_nodes_are_compared_in_never_seen_nodes_spread_and_logits_of_edges_as_they_are():
    seen = evidence(View.REPLAYED)
    never_seen = seen.original(Records.NEVER_SEEN).scores
    gauged = seen.gauged(never_seen, never_seen)
    assert float(gauged.mean()) == pytest.approx(0, abs=1e-12)
    assert float(gauged.std()) == pytest.approx(1, abs=1e-12)
    # A model that is three times as confident throughout says the same.
    assert torch.allclose(seen.gauged(3 * never_seen, 3 * never_seen), gauged)
    with pytest.raises(MetricError, match="same margin"):
        seen.gauged(never_seen, torch.ones(4))
    of_edges = evidence(View.REPLAYED, data=EDGES, forget=FORGET_EDGES, parent=OF_EDGES)
    scores = of_edges.original(Records.NEVER_SEEN).scores
    assert torch.equal(of_edges.gauged(scores, scores), scores)


def test_the_order_of_a_models_classes_does_not_matter():
    config = OF_NODES.config.model_copy(update={"classes": ("dog", "bee", "cat")})
    other = type(OF_NODES)(config)
    state = OF_NODES.state_dict()
    for name in ("head.weight", "head.bias"):
        state[name] = state[name][[2, 0, 1]]
    other.load_state_dict(state)
    seen = evidence(View.REPLAYED, candidate=other)
    assert torch.equal(seen.candidate(Records.RETAINED).logits, seen.original(Records.RETAINED).logits)


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        (object(), "no graph network"),
        (OF_EDGES, "no graph network of the original's task"),
        (train(dataclasses.replace(NODES, classes=("x", "y", "z")), "nodes", epochs=1), "do not read the same features or know"),
        (train(dataclasses.replace(NODES, features=NODES.features[:, :5], feature_names=NODES.feature_names[:5]), "nodes", epochs=1), "do not read the same features"),
    ],
)  # fmt: skip
def test_what_is_not_comparable_is_refused(candidate, reason):
    with pytest.raises(MetricError, match=reason):
        evidence(View.REPLAYED, candidate=candidate).candidate(Records.FORGOTTEN)


def test_an_original_that_is_no_graph_network_is_refused():
    with pytest.raises(MetricError, match="object is no graph network"):
        evidence(View.REPLAYED, parent=object())


def test_each_model_passes_over_the_graph_once_for_each_view(monkeypatch):
    passes = []
    real = type(OF_NODES).encode

    def encode(self, *arguments):
        passes.append(id(self))
        return real(self, *arguments)

    monkeypatch.setattr(type(OF_NODES), "encode", encode)
    seen = evidence(View.REPLAYED)
    for _ in range(2):
        for records in Records:
            seen.original(records)
            seen.random(records)
    assert len(passes) == 2


def test_there_are_no_pairs_without_an_edge_in_a_complete_graph():
    data = communities("edges").only([f"node:n{place}" for place in range(4)])
    complete = dataclasses.replace(
        data,
        edges=torch.triu_indices(4, 4, 1),
        held_out_edges=torch.zeros(6, dtype=torch.bool),
        relations=torch.zeros(6, dtype=torch.int64),
    )
    with pytest.raises(MetricError, match="no pairs without an edge"):
        _ = evidence(View.REPLAYED, data=complete, forget=ForgetSet(), parent=OF_EDGES).negatives
