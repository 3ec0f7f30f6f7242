import torch

from unlearning.losses.gradient_difference import gradient_difference_loss


def test_the_weights_scale_their_terms_in_either_precision():
    for dtype in (torch.float32, torch.float64):
        forgotten = torch.tensor([2.0, 4.0], dtype=dtype)
        retained = torch.tensor([1.0, 1.0, 4.0], dtype=dtype)
        assert gradient_difference_loss(forgotten, retained, 0.5, 3.0).item() == 3.0 * 2.0 - 0.5 * 3.0


def test_each_sides_gradient_has_its_own_sign():
    forgotten, retained = torch.ones(2, requires_grad=True), torch.ones(4, requires_grad=True)
    gradient_difference_loss(forgotten, retained).backward()
    assert forgotten.grad.tolist() == [-0.5, -0.5]
    assert retained.grad.tolist() == [0.25] * 4
