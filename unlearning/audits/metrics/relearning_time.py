"""Relearning time: what was truly forgotten takes as long to learn again as what was never learned."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from unlearning.errors import MetricError


@dataclass(frozen=True)
class RelearningTime:
    """Steps of the audited model over those of retrained models.

    Attributes:
        value: Steps over the mean steps of the retrained models: near 1 is good, near 0 means it still knew.
        interval: The ratio to the slowest and to the fastest retrained model: their range, not a confidence interval.
        n: Number of retrained models.
        steps: Of the audited model.
        reference_steps: Of each retrained model.
    """

    value: float
    interval: tuple[float, float]
    n: int
    steps: int
    reference_steps: tuple[int, ...]


def steps_to_reach(curve: Sequence[float], target: float, name: str = "model") -> int:
    """First step at which the curve is at or above the target.

    Args:
        curve: Accuracy on the forget set before the first step, after it, and so on.
        target: Accuracy to reach.
        name: Whose curve it is, for the message.

    Raises:
        MetricError: The curve is empty, holds something else than shares, or never gets there.

    >>> steps_to_reach([0.2, 0.6, 0.9, 0.8], 0.9)
    2
    """
    if not curve:
        raise MetricError(f"The {name}'s relearning curve is empty.")
    if not all(math.isfinite(share) and 0 <= share <= 1 for share in (*curve, target)):
        raise MetricError(f"The {name}'s relearning curve or its target is not a share between 0 and 1.")
    for step, share in enumerate(curve):
        if share >= target:
            return step
    raise MetricError(f"The {name} did not reach {target:.4g} within {len(curve) - 1} steps.")


def relearning_time(
    curve: Sequence[float], references: Sequence[Sequence[float]], target: float
) -> RelearningTime:
    """Steps back to the original's accuracy on the forget set, over the retrained models' steps.

    Golatkar et al. (2020) call the numerator relearn time; Tarun et al., "Fast Yet Effective Machine Unlearning"
    (2023), relate it to the original (anamnesis index). Here the anchor is the retrained model. A model that never gets
    there has no time, rather than the last step as its time. The curves must stem from copies: relearning in
    place spoils the model for every later check.

    Args:
        curve: The audited model's accuracy on the forget set before the first step, after it, and so on.
        references: One such curve for each retrained model, measured at the same steps.
        target: The original model's accuracy on the forget set.

    Raises:
        MetricError: A curve never gets there or is not one of shares, no reference, or a retrained model is there before
            the first step: then the set was not memorised and there is nothing to relearn.

    >>> relearning_time([0.5, 0.8, 1.0], [[0.1, 0.4, 0.7, 0.9, 1.0]], 1.0).value  # 2 steps over 4
    0.5
    """
    if not references:
        raise MetricError("There is no retrained model to compare the relearning time with.")
    reference_steps = tuple(steps_to_reach(one, target, "retrained model") for one in references)
    if not min(reference_steps):
        raise MetricError(
            f"A retrained model reaches {target:.4g} without relearning: nothing was memorised."
        )
    steps = steps_to_reach(curve, target, "audited model")
    return RelearningTime(
        value=steps * len(references) / sum(reference_steps),
        interval=(steps / max(reference_steps), steps / min(reference_steps)),
        n=len(references),
        steps=steps,
        reference_steps=reference_steps,
    )
