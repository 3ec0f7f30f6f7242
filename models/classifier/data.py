"""A classifier's records in memory."""

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.classifier.records import HOLDOUT, open_records
from models.holdout import in_audit_half


@dataclass(frozen=True)
class ClassifierData:
    """Records, training and held out. Never changed in place: selections are new objects.

    Attributes:
        ids: The records' ids, distinct.
        features: Shape (n, width), in the type they were given in.
        labels: Shape (n,), int64 indices into `classes`.
        held_out: Shape (n,), bool: True for a record that no model learns.
        classes: Class names.
    """

    ids: tuple[str, ...]
    features: Tensor
    labels: Tensor
    held_out: Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def width(self) -> int:
        """Features per record."""
        return self.features.shape[1]

    @cached_property
    def positions(self) -> dict[str, int]:
        """Position of each id."""
        return {record_id: position for position, record_id in enumerate(self.ids)}

    def missing(self, record_ids: Iterable[str]) -> list[str]:
        """Return those ids that are not here."""
        return [record_id for record_id in record_ids if record_id not in self.positions]

    def only(self, record_ids: Iterable[str]) -> "ClassifierData":
        """Return these records, in the order in which they stand here; ids not here are ignored."""
        return self._select(self._mask(record_ids))

    def without(self, record_ids: Iterable[str]) -> "ClassifierData":
        """Return all other records; ids not here are ignored."""
        return self._select(~self._mask(record_ids))

    def without_classes(self, names: Collection[str]) -> "ClassifierData":
        """Return the records of all other classes."""
        dropped = torch.tensor([name in names for name in self.classes], dtype=torch.bool)
        return self._select(~dropped[self.labels])

    def training(self) -> "ClassifierData":
        """Return the records that a model learns."""
        return self._select(~self.held_out)

    def calibration(self) -> "ClassifierData":
        """Return the half of the held-out records that methods may use as target and stopping rule."""
        return self._select(self.held_out & ~self._audited)

    def audit(self) -> "ClassifierData":
        """Return the half of the held-out records that no method ever receives."""
        return self._select(self.held_out & self._audited)

    def for_methods(self) -> "ClassifierData":
        """Return everything but the audit half."""
        return self._select(~(self.held_out & self._audited))

    def training_digest(self) -> str:
        """Return the SHA-256 of everything that training learns: ids, features and classes, in their order.

        The order counts, because stochastic training visits records by their place.
        """
        known = self.training()
        described = [known.ids, list(known.features.shape), str(known.features.dtype), known.classes]
        digest = hashlib.sha256(json.dumps(described).encode())
        for tensor in (known.features, known.labels):
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def labels_among(self, classes: Sequence[str]) -> Tensor:
        """Return the labels as indices into `classes`, a model's, shape (n,).

        Raises:
            ValueError: A record's class is not among them.
        """
        known = {name: index for index, name in enumerate(classes)}
        indices = torch.tensor([known.get(name, -1) for name in self.classes], dtype=torch.int64)
        labels = indices[self.labels]
        if (labels < 0).any():
            strange = sorted({self.classes[label] for label in self.labels[labels < 0].tolist()})
            raise ValueError(f"the model does not know these classes: {', '.join(strange[:20])}")
        return labels

    def changes_to(self, target: "ClassifierData") -> tuple["ClassifierData", "ClassifierData"]:
        """Compare training records with those of `target`.

        Returns:
            Records of this object to unlearn, and records of `target` to learn. A record whose features or
            class differ is in both.
        """
        mine, theirs = self.training(), target.training()
        common = [record_id for record_id in mine.ids if record_id in theirs.positions]
        here = torch.tensor([mine.positions[record_id] for record_id in common], dtype=torch.int64)
        there = torch.tensor([theirs.positions[record_id] for record_id in common], dtype=torch.int64)
        same = (mine.features[here].to(torch.float64) == theirs.features[there].to(torch.float64)).all(dim=1)
        same &= torch.tensor(
            [
                mine.classes[label] == theirs.classes[other]
                for label, other in zip(
                    mine.labels[here].tolist(), theirs.labels[there].tolist(), strict=True
                )
            ],
            dtype=torch.bool,
        )
        kept = set(compress(common, same.tolist()))
        return mine.without(kept), theirs.without(kept)

    @cached_property
    def _audited(self) -> Tensor:
        """True for held-out records of the audit half, shape (n,)."""
        audited = torch.zeros(len(self), dtype=torch.bool)
        for position in self.held_out.nonzero().flatten().tolist():
            audited[position] = in_audit_half(self.ids[position])
        return audited

    def _mask(self, record_ids: Iterable[str]) -> Tensor:
        mask = torch.zeros(len(self), dtype=torch.bool)
        here = [self.positions[record_id] for record_id in record_ids if record_id in self.positions]
        mask[torch.tensor(here, dtype=torch.int64)] = True
        return mask

    def _select(self, mask: Tensor) -> "ClassifierData":
        return ClassifierData(
            tuple(compress(self.ids, mask.tolist())),
            self.features[mask],
            self.labels[mask],
            self.held_out[mask],
            self.classes,
        )


def load_data(directory: Path) -> ClassifierData:
    """Load a snapshot directory.

    Raises:
        DatasetError: It is not a snapshot of classifier records.
    """
    with open_records(directory) as records:
        return ClassifierData(
            ids=tuple(records.index.record_ids()),
            # A copy: the mapped array is read-only, and torch has no read-only tensors.
            features=torch.from_numpy(np.array(records.features)),
            labels=torch.from_numpy(records.labels),
            held_out=torch.from_numpy(records.split == HOLDOUT),
            classes=records.classes,
        )
