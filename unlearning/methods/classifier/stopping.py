"""When a forgetting has gone far enough: at the first model that treats forgotten records as never-seen ones.

`unlearning.calibration` finds never-seen records that look like the forgotten ones. For records the rule compares
margins: it is enough when forgotten ones no longer score above never-seen ones. For classes that are forgotten whole
it compares how many are recognised: held-out records under a class that nothing around them speaks for are rejected
with far larger margins than a retrained model rejects the records of a class that it never met (on MNIST it gives them
the greater margin in 80 of 100 pairs), so equal margins would be over-forgetting. Without calibration, the schedule
runs to its end.
"""

import math
from collections.abc import Iterator
from typing import Literal

from models.classifier.data import ClassifierData
from models.classifier.network import NetworkClassifier
from models.contracts import ForgetSet
from models.threads import one_thread
from unlearning.calibration import Calibration
from unlearning.errors import MethodUnsuitableError

CHECKS_PER_EPOCH = 8
"""Ascent can overshoot within an epoch, but each check reads the forget set and its never-seen likes once."""

Mode = Literal["validation", "none"]


class StoppingRule:
    """Compares candidates with the picture of the never seen.

    Attributes:
        calibration: None where the fixed schedule decides.
        figures: Of the last candidate, for progress.
    """

    def __init__(self, mode: Mode, model: NetworkClassifier, data: ClassifierData, forget: ForgetSet) -> None:
        """Prepare the picture.

        Raises:
            MethodUnsuitableError: Held-out records make none for this forget set, or `model` passes for one that has
                never seen it already, so that there is no target to move to. With `mode="none"` neither matters.
        """
        self.calibration: Calibration | None = None
        self.figures: dict[str, float] = {}
        self._compares_recognition = bool(forget.classes)
        if mode == "none":
            return
        with one_thread():  # as the steps are computed: what is nearest must not depend on the machine
            self.calibration = Calibration.prepare(data, forget)
            nothing_to_do = self.is_enough(model)
        if nothing_to_do:
            raise MethodUnsuitableError(
                "The records to forget look to the model like never-seen ones already, so validation data give no "
                "target; calibration none runs the fixed schedule all the same."
            )

    def is_enough(self, candidate: NetworkClassifier) -> bool:
        """Tell whether the forgotten records look never seen, and keep the figures. Never, without calibration.

        Raises:
            MetricError: The candidate's logits are not finite numbers.
        """
        if self.calibration is None:
            return False
        if self._compares_recognition:
            ours, theirs = recognised(candidate, self.calibration)
            self.figures = {"forgotten recognised": ours, "never seen recognised": theirs}
            return ours <= theirs
        comparison = self.calibration.compare(candidate)
        self.figures = {"AUC forgotten vs never seen": comparison.auc}
        return not comparison.remembered

    def checkpoints(self, steps: int) -> Iterator[bool]:
        """For each step of an epoch, tell whether to check after it: evenly spaced, the last step always."""
        every = math.ceil(steps / CHECKS_PER_EPOCH)
        for step in range(1, steps + 1):
            yield self.calibration is not None and (step % every == 0 or step == steps)


def recognised(candidate: NetworkClassifier, calibration: Calibration) -> tuple[float, float]:
    """Return the shares of forgotten records and, by their weights, of never-seen pairs that get their own class."""
    right = [
        candidate.predict(data.features) == candidate.labels_of(data)
        for data in (calibration.forgotten, calibration.never_seen)
    ]
    return float(right[0].double().mean()), float(calibration.weights[right[1]].sum())
