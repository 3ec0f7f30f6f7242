"""Who is compared on what: the anchors and the sets of records of one classifier audit, each pair read once.

The anchors are explicit: the *original*, models *retrained* on what remains by other seeds, the architecture at a
*random* initialisation, and *never-seen* records, the audit half of the held-out ones. What is not there is
missing, and whoever asks for it learns why; nothing stands in for it.
"""

import enum
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from models.classifier.data import ClassifierData
from models.classifier.network import NetworkClassifier
from unlearning.audits.outputs import Outputs, observe, reading
from unlearning.audits.references import Retrained
from unlearning.audits.suites import Case
from unlearning.errors import MetricError, MissingReferenceError

RETAINED_AT_MOST = 1000
"""Retained records that are looked at: a sample, for they may be millions."""
LEAST_FORGOTTEN = 5
"""Forgotten training records below which no claim about forgetting is made."""
LEAST_NEVER_SEEN = 20
"""Never-seen records below which membership cannot be told from chance."""


class Records(enum.StrEnum):
    """Sets of records."""

    FORGOTTEN = "forgotten"
    RETAINED = "retained"
    NEVER_SEEN = "never seen"


class Evidence:
    """Outputs of every model on every set of records, computed when first asked for and then kept.

    Attributes:
        case: What is audited.
        sets: The records: those forgotten that the original had learned, a sample of what remains, and the audit
            half of the held-out ones less what was forgotten.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        data, forget = case.data, case.forget
        self.sets: dict[Records, ClassifierData] = {
            Records.FORGOTTEN: data.only(forget.record_ids).training(),
            Records.RETAINED: _sample(data.training().without(forget.record_ids), case.seed),
            Records.NEVER_SEEN: data.audit().without(forget.record_ids).without_classes(forget.classes),
        }
        self._outputs: dict[tuple[str, Records], Outputs] = {}
        self._retrained: Retrained | None = None

    def original(self, records: Records) -> Outputs:
        """Return the original's outputs.

        Raises:
            MetricError: As `observe`.
        """
        return self._of("original", self.case.parent, records)

    def candidate(self, records: Records) -> Outputs:
        """Return the new version's outputs.

        Raises:
            MetricError: As `observe`.
        """
        return self._of("candidate", self.case.candidate, records)

    def random(self, records: Records) -> Outputs | None:
        """Return the outputs at a random initialisation, or None where the architecture offers none.

        Raises:
            MetricError: As `observe`.
        """
        runtime = self.case.references.runtime if self.case.references is not None else None
        model = runtime.untrained(self.case.parent, seed=self.case.seed) if runtime is not None else None
        return None if model is None else self._of("random", model, records)

    def retrained(self, records: Records) -> Sequence[Outputs]:
        """Return the outputs of every retrained reference.

        Raises:
            MissingReferenceError: There are none; the message says why.
            MetricError: As `observe`.
        """
        return [
            self._of(f"retrained {reference.key.seed}", reference.model, records)
            for reference in self.references().references
        ]

    def references(self) -> Retrained:
        """Return the retrained references. None are trained for sets that are too small for a claim.

        Raises:
            MissingReferenceError: There are none; the message says why.
        """
        if self._retrained is None:
            try:
                self.check_sizes()
            except MetricError as error:
                raise MissingReferenceError(str(error)) from error
            if self.case.references is None:
                raise MissingReferenceError("Nothing here could retrain a reference.")
            self._retrained = self.case.references.retrained()
        return self._retrained

    def predictions(self, name: str, model: Any, records: Records) -> Tensor:
        """Return a model's predictions as indices into the data's classes, shape (n,); -1 for a class it lacks.

        A network predicts the class of its greatest logit, so that the outputs at hand say it. Of any other
        architecture only its own `predict` knows.

        Args:
            name: What its outputs are kept under: `original`, `candidate`, or `retrained` and a seed.
            model: The model.
            records: The records.
        """
        data = self.sets[records]
        if isinstance(model, NetworkClassifier) and set(model.classes) == set(self.case.parent.classes):
            outputs = self._of(name, model, records)
            return _places(outputs.classes, data)[outputs.logits.argmax(dim=1)]
        with reading(model):
            predictions: Tensor = _places(model.classes, data)[model.predict(data.features)]
        return predictions

    def retrained_predictions(self, records: Records) -> Tensor:
        """Return the predictions of every retrained reference, shape (references, n).

        Raises:
            MissingReferenceError: There are none; the message says why.
        """
        return torch.stack(
            [
                self.predictions(f"retrained {reference.key.seed}", reference.model, records)
                for reference in self.references().references
            ]
        )

    def retrained_margins(self, records: Records) -> Tensor:
        """Return the margins of every retrained reference, shape (references, n), float64.

        Raises:
            MissingReferenceError: There are none.
            MetricError: A margin is not a finite number.
        """
        return torch.stack([outputs.margins for outputs in self.retrained(records)])

    def check_sizes(self) -> None:
        """Refuse sets that are too small for a claim.

        Raises:
            MetricError: They are; the message says which and how small.
        """
        forgotten, never_seen = len(self.sets[Records.FORGOTTEN]), len(self.sets[Records.NEVER_SEEN])
        if forgotten < LEAST_FORGOTTEN:
            raise MetricError(
                f"Only {forgotten} of the forgotten records had been learned; a claim needs {LEAST_FORGOTTEN}."
            )
        if never_seen < LEAST_NEVER_SEEN:
            raise MetricError(
                f"There are {never_seen} never-seen records in the audit half; a claim needs {LEAST_NEVER_SEEN}."
            )

    def _of(self, name: str, model: Any, records: Records) -> Outputs:
        key = name, records
        if key not in self._outputs:
            outputs = observe(model, self.sets[records])
            if outputs.classes != tuple(sorted(self.case.parent.classes)):
                raise MetricError(
                    "The models do not know the same classes, so their scores are not comparable."
                )
            self._outputs[key] = outputs
        return self._outputs[key]


def _places(classes: Sequence[str], data: ClassifierData) -> Tensor:
    known = {name: index for index, name in enumerate(data.classes)}
    return torch.tensor([known.get(name, -1) for name in classes], dtype=torch.int64)


def _sample(data: ClassifierData, seed: int) -> ClassifierData:
    if len(data) <= RETAINED_AT_MOST:
        return data
    chosen = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))[:RETAINED_AT_MOST]
    return data.only([data.ids[place] for place in chosen.tolist()])
