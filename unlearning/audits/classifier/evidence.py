"""What a classifier's audit looks at: logits of each record, and the predictions of models that offer none."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from models.classifier.data import ClassifierData
from models.classifier.network import NetworkClassifier
from unlearning.audits.classifier.outputs import observe
from unlearning.audits.evidence import RETAINED_AT_MOST, Evidence, Records
from unlearning.audits.outputs import Outputs
from unlearning.audits.reading import reading
from unlearning.audits.suites import Case
from unlearning.errors import MetricError


class ClassifierEvidence(Evidence[Outputs]):
    """Logits of every model on the records that were forgotten, on a sample of what remains, and on the audit half.

    Attributes:
        sets: As `Evidence`; never seen are the audit half of the held-out records less what was forgotten.
    """

    gating_checks: ClassVar[int] = 4  # the three of forgetting, and utility
    score_formula = "φ = log p_y - log Σ_{k≠y} p_k"
    sets: dict[Records, ClassifierData]

    def __init__(self, case: Case) -> None:
        data, forget = case.data, case.forget
        super().__init__(
            case,
            {
                Records.FORGOTTEN: data.only(forget.record_ids).training(),
                Records.RETAINED: _sample(data.training().without(forget.record_ids), case.seed),
                Records.NEVER_SEEN: data.audit().without(forget.record_ids).without_classes(forget.classes),
            },
        )

    def observe(self, model: Any, records: Records) -> Outputs:
        """Ask a model for its logits on these records.

        Raises:
            MetricError: As `outputs.observe`, or its classes are not the original's.
        """
        outputs = observe(model, self.sets[records])
        if outputs.classes != tuple(sorted(self.case.parent.classes)):
            raise MetricError("The models do not know the same classes, so their scores are not comparable.")
        return outputs

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
            outputs = self.kept(name, model, records)
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


def _places(classes: Sequence[str], data: ClassifierData) -> Tensor:
    known = {name: index for index, name in enumerate(data.classes)}
    return torch.tensor([known.get(name, -1) for name in classes], dtype=torch.int64)


def _sample(data: ClassifierData, seed: int) -> ClassifierData:
    if len(data) <= RETAINED_AT_MOST:
        return data
    chosen = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))[:RETAINED_AT_MOST]
    return data.only([data.ids[place] for place in chosen.tolist()])
