"""What all metrics promise: bad items are refused, inputs stay as they were, precision and order do not matter."""

import dataclasses
import math

import pytest
import torch

from unlearning.audits.metrics.activation_distance import activation_distance
from unlearning.audits.metrics.cross_entropy import cross_entropies
from unlearning.audits.metrics.edge_auc import auc_difference, deleted_auc, held_out_auc
from unlearning.audits.metrics.estimate import mean_estimate
from unlearning.audits.metrics.jensen_shannon import divergences, jensen_shannon
from unlearning.audits.metrics.kolmogorov_smirnov import kolmogorov_smirnov
from unlearning.audits.metrics.lira import lira_offline, lira_online
from unlearning.audits.metrics.logit_margin import logit_margins
from unlearning.audits.metrics.membership_auc import membership_auc, placements
from unlearning.audits.metrics.memorisation import memorisation_proxy, memorisation_scores
from unlearning.audits.metrics.presence_ratio import presence_ratio
from unlearning.audits.metrics.retained_privacy import membership_change
from unlearning.audits.metrics.rmia import rmia_offline, rmia_online
from unlearning.audits.metrics.strata import strata
from unlearning.audits.metrics.tpr_at_fpr import tpr_at_fpr
from unlearning.audits.metrics.u_lira import u_lira, u_lira_scores
from unlearning.audits.metrics.weight_distance import weight_distance
from unlearning.errors import MetricError

RECORDS, MODELS, CLASSES = 12, 8, 3


def normal(*shape, seed=0):
    """Values that float32 holds exactly, so that both precisions are given the same."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(torch.float64)


def shares(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)).to(torch.float64)


LABELS = torch.arange(RECORDS) % CLASSES
LEARNED = (torch.arange(MODELS)[:, None] + torch.arange(RECORDS)) % 2 == 0
SIGNALS, SHADOWS = normal(RECORDS, seed=1), normal(MODELS, RECORDS, seed=2)
LOGITS, OTHER_LOGITS = normal(RECORDS, CLASSES, seed=3), normal(RECORDS, CLASSES, seed=4)
SHARES, SHADOW_SHARES = shares(RECORDS, seed=5), shares(MODELS, RECORDS, seed=6)
POPULATION, POPULATION_SHADOWS = shares(20, seed=7), shares(MODELS, 20, seed=8)

METRICS = {
    "mean": (mean_estimate, (SIGNALS,)),
    "margins": (lambda logits: logit_margins(logits, LABELS), (LOGITS,)),
    "losses": (lambda logits: cross_entropies(logits, LABELS), (LOGITS,)),
    "ks": (kolmogorov_smirnov, (SIGNALS, SHADOWS[0])),
    "auc": (membership_auc, (SIGNALS, SHADOWS[0])),
    "placements": (placements, (SIGNALS, SHADOWS[0])),
    "et": (held_out_auc, (SIGNALS, SHADOWS[0])),
    "ed": (deleted_auc, (SIGNALS, SHADOWS[0])),
    "auc difference": (auc_difference, (SIGNALS, SHADOWS[0], SHADOWS, SHADOWS)),
    "presence": (presence_ratio, (SIGNALS, SHADOWS[0])),
    "js": (jensen_shannon, (LOGITS, OTHER_LOGITS)),
    "divergences": (divergences, (LOGITS, OTHER_LOGITS)),
    "activation": (activation_distance, (LOGITS, OTHER_LOGITS)),
    "rmia offline": (
        lambda x, refs, z, z_refs: rmia_offline(x, refs, LEARNED, z, z_refs),
        (SHARES, SHADOW_SHARES, POPULATION, POPULATION_SHADOWS),
    ),
    "rmia online": (
        lambda x, refs, z, z_refs: rmia_online(x, refs, LEARNED, z, z_refs),
        (SHARES, SHADOW_SHARES, POPULATION, POPULATION_SHADOWS),
    ),
    "lira online": (lambda phi, shadows: lira_online(phi, shadows, LEARNED), (SIGNALS, SHADOWS)),
    "lira offline": (lambda phi, shadows: lira_offline(phi, shadows, LEARNED), (SIGNALS, SHADOWS)),
    "u-lira scores": (u_lira_scores, (SIGNALS, SHADOWS[:4], SHADOWS[4:])),
    "u-lira": (u_lira, (SHADOWS[:4], SHADOWS[4:])),
    "tpr": (lambda members, others: tpr_at_fpr(members, others, 0.25), (SIGNALS, SHADOWS[0])),
    "memorisation": (lambda right: memorisation_scores(right, LEARNED), (SHADOW_SHARES,)),
    "memorisation proxy": (memorisation_proxy, (SHARES, SHADOW_SHARES)),
    "strata": (strata, (SIGNALS,)),
    "change": (membership_change, (SIGNALS, SHADOWS[0], SHADOWS[1], SHADOWS[2])),
    "weights": (lambda ours, theirs: weight_distance({"w": ours}, {"w": theirs}), (LOGITS, OTHER_LOGITS)),
}

each = pytest.mark.parametrize(("metric", "inputs"), METRICS.values(), ids=METRICS)


def figures(result):
    """Flatten a result into a list of numbers."""
    if isinstance(result, torch.Tensor):
        return result.flatten().tolist()
    if dataclasses.is_dataclass(result):
        return figures([getattr(result, field.name) for field in dataclasses.fields(result)])
    if isinstance(result, list | tuple):
        return [number for one in result for number in figures(one)]
    return [result]


@each
def test_every_figure_is_a_number_and_no_input_is_changed(metric, inputs):
    copies = [one.clone() for one in inputs]
    measured = figures(metric(*inputs))
    assert measured
    assert all(math.isfinite(number) for number in measured)
    assert all(torch.equal(copy, one) for copy, one in zip(copies, inputs, strict=True))


@each
def test_single_precision_gives_the_same_figures_as_double(metric, inputs):
    single = [one.to(torch.float32) for one in inputs]
    assert figures(metric(*single)) == figures(metric(*inputs))


@each
def test_inputs_on_the_gradients_tape_give_figures_off_it(metric, inputs):
    taped = [one.clone().requires_grad_() for one in inputs]
    assert figures(metric(*taped)) == figures(metric(*inputs))


@each
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_value_that_is_no_number_is_refused_wherever_it_stands(metric, inputs, value):
    for position in range(len(inputs)):
        spoilt = [one.clone() for one in inputs]
        spoilt[position].view(-1)[-1] = value
        with pytest.raises(MetricError):
            metric(*spoilt)


@each
def test_nothing_at_all_is_refused(metric, inputs):
    for position in range(len(inputs)):
        emptied = list(inputs)
        emptied[position] = inputs[position][:0]
        with pytest.raises(MetricError):
            metric(*emptied)


@pytest.mark.parametrize(
    "name", sorted(METRICS.keys() - {"weights"})
)  # Weights have as many axes as they like.
def test_another_number_of_axes_is_refused(name):
    metric, inputs = METRICS[name]
    for position in range(len(inputs)):
        reshaped = list(inputs)
        for other in (inputs[position][None], inputs[position].sum()):
            reshaped[position] = other
            with pytest.raises(MetricError):
                metric(*reshaped)
