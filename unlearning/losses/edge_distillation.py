"""Knowledge distillation of edges: how far a student's belief that an edge exists is from a teacher's."""

from torch import Tensor
from torch.nn import functional


def edge_divergence(teacher: Tensor, student: Tensor, temperature: float = 1.0) -> Tensor:
    """T² · mean over edges of KL(Bern(p) ‖ Bern(q)) in nats, p and q the sigmoids of teacher / T and student / T.

    KL = p (log p - log q) + (1 - p) (log(1 - p) - log(1 - q)): an edge is there or not, so its soft target has two
    entries, and the one that is not written down counts too. The logarithms are log sigmoid(±x), which stay finite where
    the sigmoid rounds to 0 or 1. The factor T² is Hinton's (`unlearning.losses.distillation`).

    Args:
        teacher: Edge logits, shape (m,), m ≥ 1. No gradient flows to them.
        student: Edge logits, shape (m,).
        temperature: T > 0.

    Returns:
        A scalar, ≥ 0.

    >>> import torch
    >>> p, q = torch.tensor([0.5]), torch.tensor([0.9])
    >>> round(edge_divergence(p.logit(), q.logit()).item(), 4)  # ½ ln(.5/.9) + ½ ln(.5/.1)
    0.5108
    """
    soft, answers = teacher.detach() / temperature, student / temperature
    there = soft.sigmoid() * (functional.logsigmoid(soft) - functional.logsigmoid(answers))
    absent = (-soft).sigmoid() * (functional.logsigmoid(-soft) - functional.logsigmoid(-answers))
    return temperature**2 * (there + absent).mean()
