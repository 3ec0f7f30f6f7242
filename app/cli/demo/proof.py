"""What the demonstration verifies with the weights themselves. Imports torch."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from app.cli.demo.digits import Digits
from models.classifier import analytic
from models.classifier.analytic import AnalyticClassifier
from models.classifier.data import ClassifierData
from models.families import Family


@dataclass(frozen=True)
class Accuracy:
    """Accuracy on the held-out records of one class."""

    label: str
    records: int
    before: float
    after: float
    refitted: float
    """Of the model that never saw what was forgotten."""


class Proof:
    """Compares the first version, the downloaded one, and one fitted afresh on what remains.

    Args:
        family: The classifier family.
        before: Checkpoint directory of the first version.
        after: Checkpoint directory of the downloaded version.
        everything: All records, forgotten ones included.
        remaining: The records that nobody asked to forget.
    """

    def __init__(
        self, family: Family, before: Path, after: Path, *, everything: Digits, remaining: Digits
    ) -> None:
        runtime = family.runtime()
        self._data = _load(family, everything)
        self._before: AnalyticClassifier = runtime.load_model(before)
        self._after: AnalyticClassifier = runtime.load_model(after)
        # The frozen random features were drawn before any record was seen. On them the head is fitted anew, from
        # the pixels of the remaining records, as if the forgotten ones had never been there.
        self._refitted = analytic.retrain(
            self._before, _load(family, remaining), seed=0, progress=lambda *_: None
        )

    def head_has_changed(self) -> bool:
        """Tell whether forgetting did anything at all."""
        return not torch.equal(self._before.head, self._after.head)

    def head_is_identical(self) -> bool:
        """Tell whether the downloaded head equals the freshly fitted one in every bit."""
        return torch.equal(self._after.head, self._refitted.head)

    def statistics_are_identical(self) -> bool:
        """Tell the same of the statistics."""
        mine, fresh = self._after.statistics, self._refitted.statistics
        return (
            torch.equal(mine.gram.values, fresh.gram.values)
            and torch.equal(mine.cross, fresh.cross)
            and torch.equal(mine.counts, fresh.counts)
        )

    def predictions_of(self, label: str) -> int:
        """Count the records, of all there ever were, that the downloaded model takes for `label`."""
        return int((self._predict(self._after) == self._after.config.classes.index(label)).sum())

    def accuracies(self) -> list[Accuracy]:
        """Compare the three models on the held-out records of each class."""
        models = (self._before, self._after, self._refitted)
        correct = [self._predict(model) == model.labels_of(self._data) for model in models]
        rows = []
        for index, label in enumerate(self._data.classes):
            of_class = self._data.held_out & (self._data.labels == index)
            before, after, refitted = (float(right[of_class].double().mean()) for right in correct)
            rows.append(Accuracy(label, int(of_class.sum()), before, after, refitted))
        return rows

    def _predict(self, model: AnalyticClassifier) -> Tensor:
        return model.predict(self._data.features)


def _load(family: Family, digits: Digits) -> ClassifierData:
    """Read records as the service reads them: through a snapshot directory."""
    with TemporaryDirectory() as scratch:
        file, snapshot = Path(scratch) / "digits.npz", Path(scratch) / "snapshot"
        digits.write(file)
        snapshot.mkdir()
        family.snapshots().ingest([file], snapshot, data_schema=None)
        data: ClassifierData = family.runtime().load_data(snapshot)
        return data
