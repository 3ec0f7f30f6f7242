"""Knowledge distillation: how far a student's softened answers are from a teacher's."""

from torch import Tensor


def distillation_divergence(teacher: Tensor, student: Tensor, temperature: float = 1.0) -> Tensor:
    """T² · mean over records of KL(p ‖ q), p = softmax(teacher / T), q = softmax(student / T), in nats.

    KL(p ‖ q) = Σ_k p_k (log p_k - log q_k), summed over classes and averaged over records; the teacher comes first.
    The factor T² keeps the gradient's size when T changes (Hinton et al., "Distilling the Knowledge in a Neural
    Network", 2015, section 2). Two slips are common: swapped arguments, and `reduction="mean"`, which also
    divides by the number of classes.

    Args:
        teacher: Logits, shape (n, classes), n ≥ 1. No gradient flows to them.
        student: Logits, shape (n, classes).
        temperature: T > 0.

    Returns:
        A scalar, ≥ 0.

    >>> import torch
    >>> p, q = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.9, 0.1]])
    >>> round(distillation_divergence(p.log(), q.log()).item(), 4)  # ½ ln(.5/.9) + ½ ln(.5/.1)
    0.5108
    """
    soft = (teacher.detach() / temperature).log_softmax(dim=1)
    answers = (student / temperature).log_softmax(dim=1)
    return temperature**2 * (soft.exp() * (soft - answers)).sum(dim=1).mean()
