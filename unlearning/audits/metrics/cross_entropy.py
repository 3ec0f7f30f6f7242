"""Cross-entropy of each record, the score of the plainest membership attack."""

from torch import Tensor

from unlearning.audits.metrics.items import labelled_logits


def cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """Loss = -log p_y = logsumexp_k z_k - z_y, per record, in nats.

    As a membership score it is used with its sign turned: members have the smaller loss (Yeom et al., "Privacy
    Risk in Machine Learning", 2018, section III).

    Args:
        logits: z, shape (n, classes), n ≥ 1, at least two classes. Log-probabilities serve as well.
        labels: y, shape (n,).

    Returns:
        Shape (n,), float64, ≥ 0.

    Raises:
        MetricError: Logits that are not finite numbers, one class alone, or labels that do not fit.

    >>> import torch
    >>> cross_entropies(torch.tensor([[0.5, 0.25, 0.25]]).log(), torch.tensor([1])).numpy().round(6)  # ln 4
    array([1.386294])
    """
    values, known = labelled_logits(logits, labels)
    return -values.log_softmax(dim=1).gather(1, known[:, None])[:, 0]
