import dataclasses

import pytest
import torch

from models.graph import architectures
from models.graph.configuration import ARCHITECTURES
from models.graph.data import GraphData
from models.graph.network import initialise
from models.graph.training import auc, full_batch_epochs, train_to_best
from tests.reference.classifier_data import silent
from tests.reference.graph_data import path_graph
from tests.reference.random_graphs import three_communities

LINKS, NODES = "link_prediction", "node_classification"
SMALL = {"hidden": (16, 8), "epochs": 60, "patience": 20, "dropout": 0.2}


def drawn_graph(task) -> GraphData:
    return three_communities(held_out="edges" if task == LINKS else "nodes")


def train(task, architecture="gcn", *, data: GraphData | None = None, seed=1, progress=silent, **changes):
    recipe = {"architecture": architecture, "task": task, **SMALL, **changes}
    return architectures.train(data or drawn_graph(task), recipe, seed=seed, progress=progress)


def same_bits(model, other) -> bool:
    mine, theirs = model.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nodes_held_out_are_classified(architecture):
    data = drawn_graph(NODES)
    model = train(NODES, architecture)
    held_out = torch.cat([data.calibration_nodes(), data.audit_nodes()])
    predicted = model.node_logits(model.embeddings(data)[held_out]).argmax(dim=1)
    assert (predicted == data.labels[held_out]).double().mean() > 0.7


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_links_held_out_score_above_pairs_without(architecture):
    data = drawn_graph(LINKS)
    # GIN's sums over neighbours start far too large, and on so few nodes their sizes say more than their directions.
    patient = {"epochs": 150, "patience": 150, "learning_rate": 0.003, "dropout": 0.0, "weight_decay": 0.01}
    bound = 0.55 if architecture == "gin" else 0.65
    model = train(LINKS, architecture, **(patient if architecture == "gin" else {}))
    embeddings = model.embeddings(data)
    pairs = torch.combinations(torch.arange(data.nodes)).T
    without = pairs[:, ~torch.isin(pairs[0] * data.nodes + pairs[1], data.edge_keys)]
    held_out = data.edges[:, data.held_out_edges]
    scores = model.edge_logits(embeddings, held_out), model.edge_logits(embeddings, without)
    assert auc(*scores) > bound


@pytest.mark.parametrize("task", [NODES, LINKS])
def test_the_same_seed_gives_the_same_bits_on_any_number_of_threads(task):
    before = torch.get_num_threads()
    one = train(task)
    torch.set_num_threads(2)
    try:
        two = train(task)
    finally:
        torch.set_num_threads(before)
    assert same_bits(one, two)
    assert not same_bits(one, train(task, seed=2))


@pytest.mark.parametrize("task", [NODES, LINKS])
def test_what_the_audit_half_says_changes_nothing(task):
    data = drawn_graph(task)
    shuffled = data.labels.clone()
    shuffled[data.audit_nodes()] = (shuffled[data.audit_nodes()] + 1) % 3
    other = dataclasses.replace(data, labels=shuffled).for_methods()
    assert same_bits(train(task), train(task, data=other))


def test_held_out_edges_carry_no_messages_and_labels_of_held_out_nodes_are_not_learned():
    data = drawn_graph(NODES)
    hidden = data.training()
    shuffled = dataclasses.replace(data, labels=data.labels.where(~data.held_out_nodes, 0)).training()
    assert same_bits(train(NODES, data=hidden), train(NODES, data=shuffled))


def test_the_best_epoch_is_kept_and_training_stops_when_it_lies_far_behind():
    data = drawn_graph(LINKS)
    scores = []
    model = train(LINKS, patience=5, progress=lambda *seen: scores.append(seen[3]["validation score"]))
    best = max(scores)
    assert len(scores) - 1 - scores.index(best) == 5
    again = train(LINKS, patience=60, epochs=scores.index(best) + 1)
    assert same_bits(model.with_deletions([]), again.with_deletions([])), (
        "the weights are those of the best epoch"
    )
    assert model.config.nodes == data.nodes


def test_where_nothing_is_held_out_every_epoch_is_run_and_the_last_kept():
    data = path_graph(6)
    seen = []
    train(NODES, data=data, epochs=7, patience=1, progress=lambda *step: seen.append(step))
    assert [step[1] for step in seen] == list(range(1, 8))
    assert all("validation score" not in step[3] for step in seen)


def test_the_first_weights_are_left_as_they_were():
    data = drawn_graph(LINKS)
    config = train(LINKS, epochs=1).config
    model = initialise(config, torch.Generator().manual_seed(0))
    before = model.frozen()
    next(iter(full_batch_epochs(model, data, config.recipe, generator=torch.Generator().manual_seed(0))))
    trained = train_to_best(model, data, generator=torch.Generator().manual_seed(0), progress=silent)
    assert same_bits(model, before)
    assert not same_bits(trained, before)


def test_retraining_on_the_same_data_by_another_seed_gives_another_model_of_the_same_recipe():
    data = drawn_graph(NODES)
    model = train(NODES)
    fewer = data.without([data.ids[0]])
    other = architectures.retrain(model, fewer, seed=5, progress=silent)
    assert same_bits(model, architectures.retrain(model, data, seed=1, progress=silent))
    assert not same_bits(model, other)
    assert architectures.recipe(other) == architectures.recipe(model)
    assert other.config.nodes == data.nodes - 1
    assert other.config.edges == fewer.message_edges().shape[1]
    assert other.classes == model.classes


def test_a_forgotten_class_keeps_its_place_when_retrained():
    data = drawn_graph(NODES)
    model = train(NODES)
    gone = [data.ids[place] for place in (data.labels == 1).nonzero().flatten().tolist()]
    assert architectures.retrain(model, data.without(gone), seed=2, progress=silent).classes == (
        "a",
        "b",
        "c",
    )


@pytest.mark.parametrize(
    ("task", "data", "message"),
    [
        (NODES, path_graph(4).without([]), "there are no training nodes"),
        (LINKS, path_graph(4), "there are no training edges"),
    ],
)
def test_a_graph_with_nothing_to_learn_from_is_refused(task, data, message):
    bare = dataclasses.replace(
        data,
        held_out_nodes=torch.ones(data.nodes, dtype=torch.bool),
        held_out_edges=torch.ones(data.edges.shape[1], dtype=torch.bool),
    )
    with pytest.raises(ValueError, match=message):
        train(task, data=bare)


def test_a_complete_graph_has_no_negatives_and_says_so():
    data = dataclasses.replace(path_graph(2))
    with pytest.raises(ValueError, match="no negative examples"):
        train(LINKS, data=data)


def test_data_that_are_not_the_models_are_refused():
    model = train(NODES)
    narrow = dataclasses.replace(drawn_graph(NODES), features=drawn_graph(NODES).features[:, :3])
    with pytest.raises(ValueError, match="reads 24 features per node, but the data have 3"):
        architectures.retrain(model, narrow, seed=1, progress=silent)
    renamed = dataclasses.replace(drawn_graph(NODES), classes=("a", "b", "z"))
    with pytest.raises(ValueError, match="does not know these classes: z"):
        architectures.retrain(model, renamed, seed=1, progress=silent)
    with pytest.raises(ValueError, match="no classes of nodes"):
        train(NODES, data=dataclasses.replace(path_graph(4), classes=(), labels=torch.full((4,), -1)))


def test_a_loss_that_is_no_number_stops_training():
    data = dataclasses.replace(drawn_graph(NODES), features=drawn_graph(NODES).features * 1e38)
    with pytest.raises(ValueError, match="diverged"):
        train(NODES, data=data, learning_rate=100.0)


def test_auc_counts_ties_half():
    assert auc(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0])) == 0.5
    assert auc(torch.tensor([3.0]), torch.tensor([1.0, 2.0])) == 1.0
