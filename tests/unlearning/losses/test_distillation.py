import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from unlearning.losses.distillation import distillation_divergence


def test_the_divergence_is_worked_by_hand():
    teacher = torch.tensor([[0.8, 0.2], [0.5, 0.5]], dtype=torch.float64).log()
    student = torch.tensor([[0.5, 0.5], [0.5, 0.5]], dtype=torch.float64).log()
    first = 0.8 * math.log(0.8 / 0.5) + 0.2 * math.log(0.2 / 0.5)
    assert distillation_divergence(teacher, student).item() == pytest.approx(first / 2)
    assert distillation_divergence(student, teacher).item() != pytest.approx(first / 2)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_the_divergence_agrees_with_torch_whose_arguments_come_the_other_way_round(temperature):
    teacher, student = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(0)).unbind()
    expected = temperature**2 * functional.kl_div(
        (student / temperature).log_softmax(1),
        (teacher / temperature).log_softmax(1),
        reduction="batchmean",
        log_target=True,
    )
    torch.testing.assert_close(distillation_divergence(teacher, student, temperature), expected)


def test_confident_logits_do_not_overflow_and_equal_ones_do_not_diverge():
    huge = torch.tensor([[1e4, -1e4]])
    assert distillation_divergence(huge, huge).item() == 0.0
    assert distillation_divergence(huge, -huge).isfinite()
    student = huge.clone().requires_grad_()
    distillation_divergence(huge, student).backward()
    assert student.grad.isfinite().all()


def test_no_gradient_reaches_the_teacher():
    teacher, student = torch.zeros(1, 2, requires_grad=True), torch.ones(1, 2, requires_grad=True)
    distillation_divergence(teacher, student).backward()
    assert teacher.grad is None


LOGITS = st.lists(st.lists(st.floats(-50, 50), min_size=3, max_size=3), min_size=2, max_size=2)


@given(logits=LOGITS, shift=st.floats(-100, 100))
@settings(max_examples=50, deadline=None)
def test_the_divergence_is_never_negative_and_does_not_see_a_shift_of_all_logits(logits, shift):
    teacher, student = (torch.tensor([row], dtype=torch.float64) for row in logits)
    divergence = distillation_divergence(teacher, student).item()
    assert divergence >= -1e-12
    assert distillation_divergence(teacher + shift, student).item() == pytest.approx(divergence, abs=1e-9)
    assert distillation_divergence(teacher, teacher + shift).item() == pytest.approx(0, abs=1e-9)
