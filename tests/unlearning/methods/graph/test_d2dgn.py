import pytest
import torch

from models.contracts import ForgetSet
from models.graph import architectures
from models.graph.elements import edge_record, node_record
from models.graph.training import auc
from tests.reference.small_graph_case import (
    ARCHITECTURES,
    LINKS,
    NODES,
    drawn_graph,
    forget,
    same_bits,
    some_edges,
    trained,
    usual,
)
from unlearning.catalog.graph import D2dgnConfig
from unlearning.errors import MethodError, MethodUnsuitableError
from unlearning.methods.graph import d2dgn
from unlearning.methods.graph.never_seen import NeverSeen
from unlearning.methods.graph.sides import Sides
from unlearning.methods.graph.student import Scene

PAPER = {"calibration": "paper", "response_loss": "kl", "alpha": 0.9, "learning_rate": 1e-3}

VIGOROUS = {"learning_rate": 0.01, "epochs": 40, "overshoot": 2.0}
"""Enough for networks this small, which the default schedule hardly moves."""


def setting(task, records=None, architecture="gcn"):
    """Return what `d2dgn.run` works with."""
    model, data = trained(task, architecture), drawn_graph(task).for_methods()
    asked = ForgetSet(usual(task) if records is None else records)
    sides = Sides.of(model, data, asked)
    scene = Scene.of(model, sides.stage)
    return model, data, asked, sides, scene


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("task", "architecture"), [(LINKS, "gcn"), (LINKS, "gat"), *((NODES, name) for name in ARCHITECTURES)]
)
def test_calibrated_it_runs_on_every_architecture_and_forgets(task, architecture):
    model, _data, _asked, sides, scene = setting(task, architecture=architecture)
    result = forget("d2dgn", task=task, architecture=architecture, **VIGOROUS)
    assert not same_bits(result, model)
    assert known(result, sides, scene) < known(model, sides, scene)


def known(model, sides, scene):
    """Mean score of what is to be forgotten."""
    embeddings = scene.embed(model)
    if model.task == LINKS:
        return float(model.edge_logits(embeddings, sides.forgotten_edges).mean())
    labels = sides.labels[sides.forgotten_nodes]
    chances = model.node_logits(embeddings[sides.forgotten_nodes]).softmax(dim=1)
    return float(chances.gather(1, labels[:, None]).mean())


def test_calibrated_it_comes_nearer_to_retraining_than_dropping_the_edges_does():
    records = some_edges(drawn_graph(LINKS), 40)
    data = drawn_graph(LINKS)
    retained = data.without(records)
    gone = data.elements(records).edges

    def ed(model):
        embeddings = model.embeddings(retained)
        kept = model.edge_logits(embeddings, retained.training_edges())
        return auc(kept, model.edge_logits(embeddings, gone))

    retrained = [
        ed(architectures.retrain(trained(LINKS), retained.training(), seed=seed, progress=lambda *_: None))
        for seed in (11, 12, 13)
    ]
    goal = sum(retrained) / len(retrained)
    dropped, distilled = ed(forget("drop_edges", records)), ed(forget("d2dgn", records, **VIGOROUS))
    assert dropped < goal
    assert abs(distilled - goal) < 0.5 * abs(dropped - goal)


@pytest.mark.parametrize("variant", ["response", "feature", "both"])
@pytest.mark.parametrize("task", [LINKS, NODES])
def test_every_variant_brings_the_forgotten_to_the_destroyer(variant, task):
    figures = []
    forget(
        "d2dgn",
        task=task,
        variant=variant,
        epochs=30,
        learning_rate=0.01,
        alpha=0.3,
        progress=lambda *step: figures.append(step[3]),
        calibration="paper",
    )
    assert figures[-1]["destroying loss"] < figures[0]["destroying loss"]
    assert figures[-1]["preserving loss"] > 0


def test_both_variants_together_are_the_sum_of_the_two():
    model, data, _asked, sides, scene = setting(LINKS)
    kept = d2dgn.kept_questions(model, sides)
    teacher = kept.ask(model, model.embeddings(data)[sides.sources])
    student = kept.ask(model, scene.embed(model))
    parts = {
        variant: d2dgn.distance(teacher, student, D2dgnConfig(variant=variant)).item()
        for variant in ("response", "feature", "both")
    }
    assert parts["response"] > 0
    assert parts["feature"] > 0
    assert parts["both"] == pytest.approx(parts["response"] + parts["feature"])


def test_alpha_weighs_preserver_and_destroyer():
    """With α = 1 nothing is destroyed, with α = 0 nothing is preserved."""
    last = {}
    for alpha in (0.0, 1.0):
        figures = []
        forget(
            "d2dgn",
            alpha=alpha,
            epochs=40,
            learning_rate=0.01,
            calibration="paper",
            progress=lambda *step, figures=figures: figures.append(step[3]),
        )
        last[alpha] = figures[-1]
    assert last[0.0]["destroying loss"] < last[1.0]["destroying loss"]
    assert last[1.0]["preserving loss"] < last[0.0]["preserving loss"]


def test_the_preserver_is_the_original_on_the_whole_graph():
    model, data, _asked, sides, scene = setting(LINKS)
    kept = d2dgn.kept_questions(model, sides)
    preserved = kept.ask(model, model.embeddings(data)[sides.sources])
    whole = model.edge_logits(model.embeddings(data), data.without(usual(LINKS)).training_edges())
    assert torch.equal(preserved.edges, whole)
    assert not torch.equal(preserved.edges, kept.ask(model, scene.embed(model)).edges)


@pytest.mark.parametrize("task", [LINKS, NODES])
def test_the_papers_destroyer_is_an_untrained_network_and_not_the_trained_one_by_another_name(task):
    model, data, _asked, sides, scene = setting(task)
    gone = d2dgn.gone_questions(sides)
    answers = d2dgn.untrained_destroyer(model, scene, gone, generator())
    own = gone.ask(model, scene.embed(model))
    assert not torch.allclose(answers.embeddings, own.embeddings)
    if task == LINKS:
        others = model.edge_logits(scene.embed(model), data.calibration_edges())
        assert answers.edges.abs().mean() < 0.5 * others.abs().mean()
    else:
        labels = sides.labels[sides.forgotten_nodes]
        chances = answers.nodes.softmax(dim=1).gather(1, labels[:, None]).mean()
        assert chances < 0.6 < own.nodes.softmax(dim=1).gather(1, labels[:, None]).mean()
    again, other = (d2dgn.untrained_destroyer(model, scene, gone, generator(seed)) for seed in (0, 1))
    assert torch.equal(again.embeddings, answers.embeddings)
    assert not torch.equal(other.embeddings, answers.embeddings)


def test_the_calibrated_destroyer_gives_forgotten_edges_the_scores_of_held_out_ones():
    records = some_edges(drawn_graph(LINKS), 60)
    model, data, asked, sides, scene = setting(LINKS, records)
    never_seen = NeverSeen.prepare(model, sides, scene, asked, generator())
    whole = model.embeddings(data)[sides.sources]
    answers = d2dgn.calibrated_destroyer(model, scene, never_seen, whole)
    held_out = model.edge_logits(whole, sides.retained.calibration_edges())
    known_before = model.edge_logits(model.embeddings(data), data.elements(records).edges)
    assert abs(answers.edges.mean() - held_out.mean()) < 0.25 * abs(known_before.mean() - held_out.mean())
    further = d2dgn.calibrated_destroyer(model, scene, never_seen, whole, overshoot=2.0)
    own = model.edge_logits(scene.embed(model), sides.forgotten_edges)
    torch.testing.assert_close(further.edges - own, 2 * (answers.edges - own))


def test_the_calibrated_destroyer_changes_a_deleted_nodes_own_class_alone():
    model, data, asked, sides, scene = setting(NODES)
    never_seen = NeverSeen.prepare(model, sides, scene, asked, generator())
    whole = model.embeddings(data)[sides.sources]
    answers = d2dgn.calibrated_destroyer(model, scene, never_seen, whole)
    own = model.node_logits(scene.embed(model)[sides.forgotten_nodes])
    labels = sides.labels[sides.forgotten_nodes]
    moved = answers.nodes - own
    assert moved.gather(1, labels[:, None]).abs().max() > 0.1
    moved.scatter_(1, labels[:, None], 0.0)
    assert not moved.any()


@pytest.mark.parametrize("task", [LINKS, NODES])
def test_without_the_lost_feature_is_what_its_replay_is_brought_to(task):
    data = drawn_graph(task)
    place = int(data.training_nodes()[0]) if task == NODES else int(data.training_edges()[0, 0])
    column = int(data.features[place].argmax())
    record = f'feature:["{data.node_ids[place]}","{data.feature_names[column]}"]'
    model, _data, _asked, sides, scene = setting(task, (record,))

    def apart(candidate):
        embeddings = scene.embed(candidate)
        if task == NODES:
            ghosts, twins = sides.replayed_nodes
            return float(
                (candidate.node_logits(embeddings[ghosts]) - model.node_logits(scene.embed(model)[twins]))
                .square()
                .mean()
            )
        shown = candidate.edge_logits(embeddings, sides.replayed_edges)
        return float((shown - model.edge_logits(scene.embed(model), sides.replayed_twins)).square().mean())

    result = forget("d2dgn", (record,), task=task, epochs=30)
    assert apart(result) < apart(model)


def test_frozen_layers_take_no_gradients_and_stay_bit_by_bit():
    """`module.requires_grad = False`, as published elsewhere, sets an attribute that nothing reads."""
    model, _data, _asked, _sides, _scene = setting(NODES)
    for moving in (0, 1, 2, 9):
        result = forget("d2dgn", task=NODES, moving_layers=moving, **PAPER)
        changed = {
            name.split(".")[1] if name.startswith("convs") else "head"
            for name, weight in result.state_dict().items()
            if not torch.equal(weight, model.state_dict()[name])
        }
        assert changed == {"head", *(str(layer) for layer in range(max(0, 2 - moving), 2))}


@pytest.mark.parametrize("task", [LINKS, NODES])
def test_what_frozen_layers_put_out_is_never_stale(task):
    """Moving all layers by the cached way gives the same bits as the plain one; a cache of the old graph would not."""
    model, _data, _asked, _sides, scene = setting(task)
    student = d2dgn.Student(model, scene, 1e-3, 1)
    torch.testing.assert_close(student.look(), scene.embed(model))
    student.step(student.embeddings().square().mean())
    torch.testing.assert_close(student.look(), scene.embed(student.network))


def test_a_link_predictor_without_moving_layers_has_nothing_to_move():
    with pytest.raises(MethodError, match="none of them may move"):
        forget("d2dgn", moving_layers=0, **PAPER)


def test_the_audit_half_is_not_looked_at():
    """Another audit half, the same result: no best epoch is picked by data that the method has no business with."""
    data = drawn_graph(LINKS)
    gone = data.audit_edges()[:, :10]
    names = data.node_ids
    fewer = data.without([edge_record(names[u], names[v], directed=False) for u, v in gone.T.tolist()])
    assert fewer.audit_edges().shape[1] == data.audit_edges().shape[1] - 10
    assert same_bits(forget("d2dgn", data=fewer), forget("d2dgn"))


def test_messages_pass_along_the_retained_graph_alone():
    _model, data, _asked, sides, _scene = setting(LINKS)
    gone = data.elements(usual(LINKS)).edges
    pairs = {tuple(pair) for pair in sides.stage.message_edges.T.tolist()}
    assert not pairs & {tuple(pair) for pair in [*gone.T.tolist(), *gone.flip(0).T.tolist()]}


def test_a_class_is_forgotten_whole():
    data = drawn_graph(NODES)
    label = data.classes.index("b")
    records = tuple(
        sorted(node_record(data.node_ids[place]) for place in (data.labels == label).nonzero()[:, 0].tolist())
    )
    records = tuple(record for record in records if not data.for_methods().missing([record]))
    result = forget("d2dgn", records, task=NODES, classes=("node:b",), epochs=80, learning_rate=0.01)
    embeddings = result.embeddings(data)
    members = [place for place in data.training_nodes().tolist() if data.labels[place] == label]
    predicted = result.node_logits(embeddings[members]).argmax(dim=1)
    before = trained(NODES).node_logits(trained(NODES).embeddings(data)[members]).argmax(dim=1)
    assert (before == label).double().mean() > 0.8
    assert (predicted == label).double().mean() < 0.4


def test_a_node_whose_label_was_never_learned_is_left_to_other_methods():
    data = drawn_graph(NODES)
    place = int(data.calibration_nodes()[0])
    with pytest.raises(MethodUnsuitableError, match="nothing to ask a destroyer"):
        forget("d2dgn", (node_record(data.node_ids[place]),), task=NODES)
