"""The demonstration's data: scikit-learn's handwritten digits, with invented people behind them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits

WRITERS = 200
HELD_OUT_EVERY = 5
"""Every fifth writer's records are held out, so that no person is on both sides."""


@dataclass(frozen=True)
class Digits:
    """1,797 images of 8 by 8 pixels with values 0 to 16, about nine by each of 200 writers."""

    features: npt.NDArray[np.uint8]
    """Shape (n, 64)."""
    labels: npt.NDArray[np.str_]
    """Shape (n,), the class names `0` to `9`."""
    ids: npt.NDArray[np.str_]
    subjects: npt.NDArray[np.str_]
    held_out: npt.NDArray[np.bool_]

    @classmethod
    def load(cls) -> Self:
        """Read them from scikit-learn's own files; scikit-learn does not say who wrote which."""
        pixels, labels = load_digits(return_X_y=True)
        number = np.arange(len(labels))
        writer = number % WRITERS
        return cls(
            features=pixels.astype(np.uint8),
            labels=labels.astype(str),
            ids=np.char.mod("digit-%04d", number),
            subjects=np.char.mod("writer-%03d", writer),
            held_out=writer % HELD_OUT_EVERY == 0,
        )

    def __len__(self) -> int:
        return len(self.ids)

    def where(self, mask: npt.NDArray[np.bool_]) -> Self:
        """Return the records that `mask`, shape (n,), selects."""
        return replace(
            self,
            features=self.features[mask],
            labels=self.labels[mask],
            ids=self.ids[mask],
            subjects=self.subjects[mask],
            held_out=self.held_out[mask],
        )

    def write(self, path: Path) -> None:
        """Write them as a data file of the classifier family."""
        split = np.where(self.held_out, "holdout", "train")
        np.savez(
            path,
            features=self.features,
            labels=self.labels,
            ids=self.ids,
            subjects=self.subjects,
            split=split,
        )
