import pytest
import torch

from unlearning.losses.distillation import distillation_divergence
from unlearning.losses.edge_distillation import edge_divergence


def test_value_worked_by_hand():
    """With p = .5: KL(p ‖ .9) = ½ ln(.5/.9) + ½ ln(.5/.1) = .5108; KL(p ‖ .5) = 0; their mean is .2554."""
    teacher, student = torch.zeros(2), torch.tensor([0.9, 0.5]).logit()
    assert edge_divergence(teacher, student).item() == pytest.approx(0.2554, abs=5e-5)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_it_is_the_divergence_of_two_classes_whose_logits_are_the_edges_and_zero(temperature):
    generator = torch.Generator().manual_seed(0)
    teacher, student = (3 * torch.randn(50, generator=generator, dtype=torch.float64) for _ in range(2))
    two = [torch.stack([logits, torch.zeros_like(logits)], dim=1) for logits in (teacher, student)]
    expected = distillation_divergence(*two, temperature)
    assert edge_divergence(teacher, student, temperature).item() == pytest.approx(expected.item(), rel=1e-12)


def test_the_order_of_the_arguments_matters():
    one, other = torch.tensor([0.0]), torch.tensor([2.0])
    assert edge_divergence(one, other).item() != pytest.approx(edge_divergence(other, one).item())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logits_beyond_what_a_sigmoid_can_hold_stay_finite(dtype):
    teacher = torch.tensor([200.0, -200.0], dtype=dtype)
    student = torch.tensor([-200.0, 200.0], dtype=dtype, requires_grad=True)
    loss = edge_divergence(teacher, student)
    loss.backward()
    assert loss.item() == pytest.approx(200.0)
    assert student.grad.isfinite().all()
    assert loss.dtype == dtype


def test_no_gradient_flows_to_the_teacher_and_equal_logits_have_none():
    logits = torch.tensor([-1.0, 0.5, 3.0], requires_grad=True)
    student = logits.detach().clone().requires_grad_()
    loss = edge_divergence(logits, student)
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-7)
    assert logits.grad is None
    assert student.grad.abs().max() < 1e-6
