"""The two sides of a forgetting, as every method of a trained network sees them: what goes, and what stays."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from models.classifier.data import ClassifierData
from models.classifier.network import NetworkClassifier
from models.contracts import ForgetSet
from models.threads import one_thread
from unlearning.errors import MethodError, MethodUnsuitableError


@dataclass(frozen=True)
class Examples:
    """Training records with labels of the model's own numbering.

    Attributes:
        features: Shape (n, input_width).
        labels: Shape (n,), int64 indices into the model's classes.
    """

    features: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Sides:
    """Training records on either side. Held-out records are on neither: they were never learned."""

    forgotten: Examples
    retained: Examples

    @classmethod
    def of(cls, model: NetworkClassifier, data: ClassifierData, forget: ForgetSet) -> "Sides":
        """Divide the training records, each side in the order of the data, whatever the order of the forget set.

        Raises:
            MethodError: A record to forget is not in the data, or a record is of a class the model does not know.
        """
        if missing := len(data.missing(forget.record_ids)):
            raise MethodError(f"{missing} of the records to forget are not in the data.")
        known = data.training()
        with as_method_errors():
            return cls(
                _examples(model, known.only(forget.record_ids)),
                _examples(model, known.without(forget.record_ids)),
            )

    def require_retained(self) -> None:
        """Refuse to go on where nothing stays.

        Raises:
            MethodUnsuitableError: Every training record is to be forgotten.
        """
        if not len(self.retained):
            raise MethodUnsuitableError(
                "Every training record is to be forgotten, so nothing is left to keep."
            )


@contextmanager
def as_method_errors() -> Iterator[None]:
    """Compute on one thread, so that the seed decides alone, and turn what training raises into method errors.

    Raises:
        MethodError: A record does not fit the model, or the weights left the numbers.
    """
    try:
        with one_thread():
            yield
    except ValueError as error:
        raise MethodError(f"It is not possible: {error}.") from error


def _examples(model: NetworkClassifier, data: ClassifierData) -> Examples:
    return Examples(data.features, model.labels_of(data))
