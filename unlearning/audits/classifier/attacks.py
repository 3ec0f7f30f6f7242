"""Shadow models of a classifier: halves of its records, and the method under audit run on each of them."""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from models.classifier.data import ClassifierData
from models.contracts import ForgetSet
from unlearning.audits.classifier.evidence import ClassifierEvidence
from unlearning.audits.classifier.outputs import observe
from unlearning.audits.evidence import Records
from unlearning.audits.references import Shadow
from unlearning.errors import MethodError


def shadow_pool(data: ClassifierData, forget: ForgetSet) -> ClassifierData:
    """Return the records that shadow models are drawn from: all that was learned, and the never-seen ones.

    The same for every forget set that names no held-out record and no whole class, so that shadow models serve many.
    """
    never_seen = data.audit().without(forget.record_ids).without_classes(forget.classes)
    pool = data.only((*data.training().ids, *never_seen.ids))
    return dataclasses.replace(pool, held_out=torch.zeros_like(pool.held_out))


class AttackedRecords:
    """Forgotten and never-seen records of one audit (`deep.Attacked`)."""

    def __init__(self, evidence: ClassifierEvidence) -> None:
        self._case = evidence.case
        self._forgotten = evidence.sets[Records.FORGOTTEN]
        names = (*self._forgotten.ids, *evidence.sets[Records.NEVER_SEEN].ids)
        self._records: ClassifierData = self._case.data.only(names)
        self.ids = self._records.ids
        self.is_forgotten = torch.tensor([name in self._forgotten.positions for name in self.ids])

    def pool(self) -> ClassifierData:
        """Return what shadow models are trained on halves of."""
        return shadow_pool(self._case.data, self._case.forget)

    def scores(self, model: Any) -> Tensor:
        """Return the margins of these records under a model, shape (n,), float64.

        Raises:
            MetricError: As `observe`.
        """
        return observe(model, self._records).scores

    def unlearn(self, shadow: Shadow) -> Any:
        """Let the method under audit forget what a shadow model has learned of the forget set.

        Raises:
            MethodError: How the candidate was made is not known.
        """
        case = self._case
        calibration = case.data.calibration().without(case.forget.record_ids)
        known = case.data.only((*shadow.trained_on, *calibration.ids))
        is_held_out = torch.tensor([name not in shadow.trained_on for name in known.ids])
        forget = tuple(sorted(shadow.trained_on.intersection(self._forgotten.ids)))
        if not case.method.implementation:
            raise MethodError(
                "How this version was made is not known, so it cannot be done to shadow models."
            )
        return case.method.load()(
            shadow.reference.model,
            dataclasses.replace(known, held_out=is_held_out),
            ForgetSet(forget, case.forget.classes),
            case.method.configure(dict(case.parameters)),
            generator=torch.Generator().manual_seed(case.seed),
            progress=case.progress,
        )
