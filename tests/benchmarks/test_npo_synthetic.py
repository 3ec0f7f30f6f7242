import json
import sys

import pytest
import torch
from torch.nn import functional

from benchmarks import npo_synthetic
from benchmarks.npo_synthetic import Path, Task


@pytest.fixture(scope="module")
def figures():
    return npo_synthetic.measure(npo_synthetic.QUICK)


@pytest.mark.parametrize("alpha", ["alpha_1", "alpha_0"])
def test_after_equal_steps_npo_has_hurt_retained_data_less(figures, alpha):
    reading = figures[alpha]["readings"]["equal_steps"]
    assert reading["defined_in"] == 1
    assert reading["ratio"]["max"] < 0.6
    assert reading["npo_kl"]["median"] / reading["ascent_kl"]["median"] == reading["ratio"]["median"]


def test_gradient_ascent_grows_by_the_steps_and_npo_by_their_logarithm(figures):
    ascent, npo = (figures["alpha_1"]["growth"][method] for method in ("gradient_ascent", "npo"))
    assert ascent["linear_r2_second_half"]["min"] > ascent["log_r2_second_half"]["max"]
    assert npo["log_r2"]["min"] > npo["linear_r2"]["max"]
    long_ascent, long_npo = (
        figures["alpha_0"]["growth_long"][method] for method in ("gradient_ascent", "npo")
    )
    assert long_ascent["linear_r2_second_half"]["min"] > 0.999
    assert long_npo["log_r2_second_half"]["min"] > 0.999
    assert long_ascent["moved"]["min"] > 2 * long_npo["moved"]["max"]


def test_every_reading_is_reported_for_either_gap(figures):
    for alpha in ("alpha_1", "alpha_0"):
        readings = figures[alpha]["readings"]
        assert list(readings) == [reading.__name__ for reading in npo_synthetic.READINGS]
        met = [name for name, reading in readings.items() if reading["meets_bar"]]
        assert figures[alpha]["readings_that_meet_the_bar"] == met


def path(retained, forgotten, moved=None):
    count = len(retained)
    return Path(
        torch.arange(count) * 25.0,
        torch.tensor(moved or range(count), dtype=torch.float64),
        torch.tensor(retained, dtype=torch.float64),
        torch.tensor(forgotten, dtype=torch.float64),
        torch.arange(count, dtype=torch.float64),
    )


ASCENDED = path(retained=[1, 2, 8, 20], forgotten=[6, 3, 1, 5], moved=[0, 1, 2, 4])
PREFERRED = path(retained=[1, 0.5, 2, 3], forgotten=[6, 4, 2, 3], moved=[0, 1, 2, 3])


@pytest.mark.parametrize(
    ("reading", "expected"),
    [
        ("best_of_each", (1, 0.5)),
        ("where_each_forgot_best", (8, 2)),
        ("equal_steps", (20, 3)),
        ("equal_weight_distance", (14, 3)),  # 3 lies halfway between ascent's 2 and 4
        ("equal_forget_shift", (20, 3)),
        ("equal_forget_kl_before", (5, 2)),  # 2 lies halfway between ascent's 3 and 1
        ("equal_forget_kl_after", (14, 3)),  # NPO climbs back to 3, halfway between ascent's 1 and 5
        ("best_npo_before", (1 + 2 / 3, 0.5)),  # at a forget divergence of 4: two thirds from 6 to 3
        ("best_npo_after", (17, 0.5)),  # three quarters from 1 to 5
    ],
)
def test_readings_are_worked_by_hand(reading, expected):
    assert getattr(npo_synthetic, reading)(ASCENDED, PREFERRED) == pytest.approx(expected)


def test_paths_that_never_meet_have_no_ratio_and_do_not_meet_the_bar():
    near = path(retained=[1, 0.1], forgotten=[6, 0.5])
    assert npo_synthetic.best_npo_before(ASCENDED, near) is None
    assert npo_synthetic.over_seeds([(1.0, 0.1), None])["meets_bar"] is False
    assert npo_synthetic.over_seeds([None]) == {
        "ratio": None,
        "ascent_kl": None,
        "npo_kl": None,
        "defined_in": 0,
        "meets_bar": False,
    }


def test_the_bar_is_met_by_the_worst_seed_or_not_at_all():
    assert npo_synthetic.over_seeds([(1.0, 0.1), (1.0, 0.2)])["meets_bar"] is True
    assert npo_synthetic.over_seeds([(1.0, 0.1), (1.0, 0.21)])["meets_bar"] is False


def test_r_squared_is_one_on_the_curve_and_zero_across_it():
    curve = torch.tensor([1.0, 2.0, 3.0])
    assert npo_synthetic.determination(curve, 5 - 2 * curve) == pytest.approx(1.0)
    assert npo_synthetic.determination(curve, torch.tensor([0.0, 1.0, 0.0])) == pytest.approx(0.0)


def test_the_fit_descends_the_logistic_loss():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(30, 4, generator=generator, dtype=torch.float64)
    signs = torch.randn(30, generator=generator, dtype=torch.float64).sign()
    head = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    for _ in range(3):
        (gradient,) = torch.autograd.grad(functional.softplus(-signs * (rows @ head)).mean(), head)
        head = (head - npo_synthetic.FIT_RATE * gradient).detach().requires_grad_()
    torch.testing.assert_close(npo_synthetic.fit(rows, signs, 3), head.detach())


def test_samples_have_the_papers_share_of_unusual_signs():
    """With z ~ N(0, 1), E σ(1 + z) = .6967 (by quadrature): the share of the usual sign, on either side."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.eye(16, dtype=torch.float64)
    for mean, usual in ((-1.0, 1), (1.0, -1)):
        rows, signs = npo_synthetic.sample(40_000, mean, usual, weights, generator)
        assert (signs == usual).double().mean().item() == pytest.approx(0.6967, abs=0.01)
        # E relu(N(±1, 1)) = φ(1) ± Φ(±1) = 1.0833 or .0833.
        assert rows.mean().item() == pytest.approx(1.0833 if mean > 0 else 0.0833, abs=0.005)


def test_the_first_step_of_npo_is_the_step_of_gradient_ascent():
    task = Task.draw(1.0, 0, fit_steps=50)
    one = npo_synthetic.unlearn(task, npo_synthetic.ascent, 0.1, 1, 1)
    other = npo_synthetic.unlearn(task, npo_synthetic.preference(task, 3.0), 0.1, 1, 1)
    assert one.moved[1].item() == pytest.approx(other.moved[1].item(), rel=1e-12)
    assert one.shifted.tolist() == pytest.approx(other.shifted.tolist(), abs=1e-14)


@pytest.mark.parametrize("form", ["table", "json"])
def test_the_command_prints_what_was_measured(figures, form, monkeypatch, capsys):
    monkeypatch.setattr(
        npo_synthetic, "measure", lambda sizes: dict(figures) if sizes is npo_synthetic.QUICK else None
    )
    monkeypatch.setattr(sys, "argv", ["npo_synthetic", "--quick", *(["--json"] if form == "json" else [])])
    npo_synthetic.main()
    printed = capsys.readouterr().out
    if form == "json":
        answer = json.loads(printed)
        assert answer["alpha_0"] == figures["alpha_0"]
        assert answer["environment"]["cores"] >= 1
    else:
        assert "equal_steps" in printed
        assert "undefined" in printed
