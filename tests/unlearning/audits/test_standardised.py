import statistics

import pytest
import torch

from unlearning.audits.standardised import left_out
from unlearning.errors import MetricError

GENERATOR = torch.Generator().manual_seed(0)
REFERENCES = torch.randn(5, 30, dtype=torch.float64, generator=GENERATOR) * torch.linspace(0.1, 3, 30)
MODEL = torch.randn(30, dtype=torch.float64, generator=GENERATOR)


def slow(model, references):
    """The figures of one model against every choice of all references but one, record by record."""
    shifts, distances = [], []
    for place in range(len(references)):
        rest = [row for index, row in enumerate(references) if index != place]
        variances = [statistics.variance(column) for column in zip(*rest, strict=True)]
        prior, degrees = statistics.fmean(variances), len(rest) - 1
        standardised = [
            (value - statistics.fmean(column)) / ((4 * prior + degrees * own) / (4 + degrees)) ** 0.5
            for value, column, own in zip(model, zip(*rest, strict=True), variances, strict=True)
        ]
        shifts.append(statistics.fmean(standardised))
        distances.append(statistics.fmean(map(abs, standardised)))
    return statistics.fmean(shifts), statistics.fmean(distances)


def test_figures_equal_the_slow_version():
    found = left_out(MODEL, REFERENCES)
    shift, distance = slow(MODEL.tolist(), REFERENCES.tolist())
    assert found.shift == pytest.approx(shift)
    assert found.distance == pytest.approx(distance)
    assert len(found.reference_shifts) == len(found.reference_distances) == 5


def test_a_reference_is_measured_against_the_others_alone():
    base = left_out(MODEL, REFERENCES)
    moved = REFERENCES.clone()
    moved[2] += 5.0
    found = left_out(MODEL, moved)
    assert found.reference_shifts[2] > base.reference_shifts[2] + 1
    assert found.reference_distances[2] > base.reference_distances[2] + 1


def test_a_mixture_of_remembered_and_destroyed_shows_in_the_distance_and_not_in_the_shift():
    sign = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(15)
    mixed = REFERENCES.mean(dim=0) + 5 * sign * REFERENCES.std(dim=0)
    found = left_out(mixed, REFERENCES)
    assert abs(found.shift) < 1
    assert found.distance > 2 * max(found.reference_distances)


@pytest.mark.parametrize(
    ("model", "references", "reason"),
    [
        (MODEL, REFERENCES[:1].expand(5, -1), "leaves nothing to chance"),
        (MODEL[:3], REFERENCES, "not asked about the same records"),
        (MODEL, REFERENCES[:2], "too few"),
        (torch.full((30,), torch.nan), REFERENCES, "not finite"),
        (MODEL, REFERENCES.index_fill(1, torch.tensor([0]), torch.inf), "not finite"),
    ],
)
def test_what_cannot_be_standardised_is_refused(model, references, reason):
    with pytest.raises(MetricError, match=reason):
        left_out(model, references)
