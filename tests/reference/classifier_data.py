"""Small classifier data for tests: clusters, one per class."""

import torch

from models.classifier.data import ClassifierData


def clusters(
    records: int = 60, *, width: int = 6, classes: int = 3, held_out: int = 0, seed: int = 0
) -> ClassifierData:
    """Return `records` training and `held_out` held-out records: Gaussian clusters, the classes in turn."""
    total = records + held_out
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, width, dtype=torch.float64, generator=generator)
    labels = torch.arange(total) % classes
    # More than is asked for, so that a record stays the same whatever number of others is asked for.
    noise = torch.randn(1000, width, dtype=torch.float64, generator=generator)[:total]
    features = centres[labels] + 0.3 * noise
    return ClassifierData(
        ids=tuple(f"r{index}" for index in range(total)),
        features=features,
        labels=labels,
        held_out=torch.arange(total) >= records,
        classes=tuple("abcdefghij"[:classes]),
    )


def silent(stage, step, of, figures=None, /) -> None:
    """Take no notice of progress."""
