import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearning.audits.metrics.rmia import rmia_offline, rmia_online
from unlearning.errors import MetricError

RECORDS, MODELS, POPULATION = 9, 5, 13


def draw(seed):
    """Continuous probabilities, and a membership in which every record has models of both kinds."""
    generator = torch.Generator().manual_seed(seed)
    target, references, population, population_references = (
        0.05 + 0.9 * torch.rand(*shape, generator=generator, dtype=torch.float64)
        for shape in ((RECORDS,), (MODELS, RECORDS), (POPULATION,), (MODELS, POPULATION))
    )
    learned = torch.rand(MODELS, RECORDS, generator=generator) < 0.5
    learned[0], learned[1] = True, False
    return target, references, learned, population, population_references


def mean(values):
    return sum(values) / len(values)


def slow(target, references, learned, population, population_references, *, expect, gamma):
    """All pairs, written out; `expect` makes p(x) of the lists of probabilities of both kinds of models."""
    scores = []
    for x in range(len(target)):
        kinds = [
            [float(references[r, x]) for r in range(len(references)) if bool(learned[r, x]) is kind]
            for kind in (True, False)
        ]
        ratio_x = float(target[x]) / expect(*kinds)
        beaten = 0
        for z in range(len(population)):
            ratio_z = float(population[z]) / expect(None, population_references[:, z].tolist())
            beaten += ratio_x / ratio_z >= gamma
        scores.append(beaten / len(population))
    return scores


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 200), a=st.floats(0, 1), gamma=st.floats(0.5, 2))
def test_the_offline_score_is_that_of_all_pairs(seed, a, gamma):
    inputs = draw(seed)
    expected = slow(*inputs, expect=lambda _, out: 0.5 * ((1 + a) * mean(out) + (1 - a)), gamma=gamma)
    assert rmia_offline(*inputs, a=a, gamma=gamma).tolist() == pytest.approx(expected, abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 200), gamma=st.floats(0.5, 2))
def test_the_online_score_is_that_of_all_pairs(seed, gamma):
    inputs = draw(seed)

    def expect(inside, outside):
        return mean(outside) if inside is None else 0.5 * (mean(inside) + mean(outside))

    assert rmia_online(*inputs, gamma=gamma).tolist() == pytest.approx(
        slow(*inputs, expect=expect, gamma=gamma), abs=1e-12
    )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 50))
def test_the_order_of_records_models_and_population_does_not_matter(seed):
    target, references, learned, population, population_references = draw(seed)
    generator = torch.Generator().manual_seed(seed)
    x, r, z = (torch.randperm(size, generator=generator) for size in (RECORDS, MODELS, POPULATION))
    for attack in (rmia_offline, rmia_online):
        plain = attack(target, references, learned, population, population_references)
        shuffled = attack(
            target[x], references[r][:, x], learned[r][:, x], population[z], population_references[r][:, z]
        )
        assert torch.equal(shuffled, plain[x])


def test_one_reference_model_finds_memorised_records_among_hard_and_easy_ones():
    # A memorised record is much likelier under the target than under the model without it, however hard it is.
    generator = torch.Generator().manual_seed(0)
    hardness = 0.1 + 0.6 * torch.rand(300, generator=generator, dtype=torch.float64)
    noise = 0.02 * torch.randn(2, 300, generator=generator, dtype=torch.float64)
    target, reference = hardness + noise[0], hardness + noise[1]
    target[:100] += 0.2
    never = torch.zeros(1, 200, dtype=torch.bool)
    scores = rmia_offline(
        target[:200], reference[None, :200], never, target[200:], reference[None, 200:], a=1.0
    )
    assert scores[:100].mean() > 0.9
    assert scores[100:].mean() == pytest.approx(0.5, abs=0.1)


def test_a_ratio_of_exactly_gamma_counts():
    # All models give ½, so every ratio is 1 = γ; with γ above it, none counts.
    half = torch.full((1, 2), 0.5)
    never = torch.zeros(1, 2, dtype=torch.bool)
    for gamma, expected in ((1.0, [1.0, 1.0]), (1.0001, [0.0, 0.0])):
        assert rmia_offline(half[0], half, never, half[0], half, a=1.0, gamma=gamma).tolist() == expected


def test_a_record_that_every_reference_model_has_learned_is_refused_offline():
    target, references, learned, *population = draw(0)
    learned[:, 3] = True
    with pytest.raises(MetricError, match="1 of 9 records need at least 1 models that never saw them"):
        rmia_offline(target, references, learned, *population)


def test_a_record_that_no_reference_model_has_learned_is_refused_online_only():
    target, references, learned, *population = draw(0)
    learned[:, 3] = False
    with pytest.raises(MetricError, match="that have learned them"):
        rmia_online(target, references, learned, *population)
    assert len(rmia_offline(target, references, learned, *population)) == RECORDS


def test_signals_that_are_no_probabilities_are_refused():
    target, *rest = draw(0)
    for attack in (rmia_offline, rmia_online):
        with pytest.raises(MetricError, match="probabilities"):
            attack(target - 2, *rest)


def test_references_that_rule_a_record_out_are_refused_online():
    target, references, *rest = draw(0)
    references[:, 0] = 0
    with pytest.raises(MetricError, match="its ratio is undefined"):
        rmia_online(target, references, *rest)


def test_the_population_needs_the_same_reference_models():
    target, references, learned, population, population_references = draw(0)
    with pytest.raises(MetricError, match=r"\(4, 13\) instead of \(5, 13\)"):
        rmia_offline(target, references, learned, population, population_references[:4])


@pytest.mark.parametrize(
    "settings", [{"a": -0.1}, {"a": 1.1}, {"a": float("nan")}, {"gamma": 0.0}, {"gamma": float("nan")}]
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(MetricError, match="RMIA's"):
        rmia_offline(*draw(0), **settings)
