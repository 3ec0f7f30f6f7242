"""Who is compared on what: the anchors and the sets of records of one audit, each pair read once.

The anchors are explicit: the *original*, models *retrained* on what remains by other seeds, the architecture at a
*random* initialisation, and *never-seen* records, the audit half of the held-out ones. What is not there is
missing, and whoever asks for it learns why; nothing stands in for it.

What a family provides
----------------------
The checks of forgetting (`forgetting`), the pictures (`pictures`), most informing figures (`comparisons`) and the deep
audit (`deep`) know no family. They ask an `Evidence` for scores, so a family derives one and says:

- `sets`: which items were *forgotten*, which are *retained*, which *never seen*; anything that has a length. Forgotten
  are those that the original had learned from, for of others there is nothing to remember.
- `observe(model, records)`: the model's `Scored` outputs on one of these sets: one real number per item, in the order
  of the set, float64, larger meaning more like something that was learned, and roughly normal over retrained models (a
  logit margin, the log-odds of an edge or of a pair). It raises `MetricError` for what gives no such numbers. It is asked
  once for each model and set, and must leave the model as it is (`reading`).
- `gating_checks`: among how many the rate of false alarms is divided;
- `gauged`, where what chance leaves to a whole model, such as how confident it is throughout, drowns what single records show.

A family that can look at the same forgotten items in more than one way makes one `Evidence` of each `view`, and gives all
of them to `forgetting_checks`.

Everything else of a suite (`suite.Parts`) is the family's own: its utility, figures that need more than scores, a
numerical certificate for exact methods. `suites.SUITES` registers it.
"""

import enum
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence, Sized
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import torch
from torch import Tensor

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


class Scored(Protocol):
    """What one model gives out on one set of items."""

    @property
    def scores(self) -> Tensor:
        """φ of each item, shape (n,), float64: larger meaning more like something that was learned.

        Raises:
            MetricError: A score is not a finite number.
        """
        ...


OutputsT = TypeVar("OutputsT", bound=Scored)
"""What a family's models give out."""


class Evidence(ABC, Generic[OutputsT]):
    """Outputs of every model on every set of records, computed when first asked for and then kept.

    Args:
        case: What is audited.
        sets: The records: those forgotten that the original had learned, a sample of what remains, and never-seen ones.
        view: How the forgotten records are looked at, where a family has more than one way; ends the checks' names.

    Attributes:
        gating_checks: Checks that the rate of false alarms is divided among.
        score_name: What pictures call the score.
        score_formula: How it is computed.
    """

    gating_checks: ClassVar[int]
    score_name: str = "margin"
    score_formula: str

    def __init__(self, case: Case, sets: Mapping[Records, Sized], *, view: str = "") -> None:
        self.case = case
        self.sets = sets
        self.view = view
        self._outputs: dict[tuple[str, Records], OutputsT] = {}
        self._retrained: Retrained | None = None

    @abstractmethod
    def observe(self, model: Any, records: Records) -> OutputsT:
        """Ask a model for everything that checks need of these records.

        Raises:
            MetricError: It gives no such outputs, or not about these records.
        """

    def gauged(self, scores: Tensor, never_seen: Tensor) -> Tensor:
        """Bring one model's scores to the scale on which gating checks compare models; as they are, unless a family differs.

        Args:
            scores: Of any set of records, shape (n,).
            never_seen: The same model's scores of the never-seen ones, shape (m,).

        Returns:
            Shape (n,); in the same order from small to large.
        """
        del never_seen
        return scores

    @property
    def rate(self) -> float:
        """Chance that a genuinely retrained model fails one gating check."""
        return self.case.policy.false_alarm_rate / self.gating_checks

    def original(self, records: Records) -> OutputsT:
        """Return the original's outputs.

        Raises:
            MetricError: As `observe`.
        """
        return self.kept("original", self.case.parent, records)

    def candidate(self, records: Records) -> OutputsT:
        """Return the new version's outputs.

        Raises:
            MetricError: As `observe`.
        """
        return self.kept("candidate", self.case.candidate, records)

    def random(self, records: Records) -> OutputsT | None:
        """Return the outputs at a random initialisation, or None where the architecture offers none.

        Raises:
            MetricError: As `observe`.
        """
        runtime = self.case.references.runtime if self.case.references is not None else None
        model = runtime.untrained(self.case.parent, seed=self.case.seed) if runtime is not None else None
        return None if model is None else self.kept("random", model, records)

    def retrained(self, records: Records) -> Sequence[OutputsT]:
        """Return the outputs of every retrained reference.

        Raises:
            MissingReferenceError: There are none; the message says why.
            MetricError: As `observe`.
        """
        return [
            self.kept(f"retrained {reference.key.seed}", reference.model, records)
            for reference in self.references().references
        ]

    def retrained_scores(self, records: Records) -> Tensor:
        """Return the scores of every retrained reference, shape (references, n), float64.

        Raises:
            MissingReferenceError: There are none.
            MetricError: A score is not a finite number.
        """
        return torch.stack([outputs.scores for outputs in self.retrained(records)])

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

    def kept(self, name: str, model: Any, records: Records) -> OutputsT:
        """Return a model's outputs, observed at most once.

        Args:
            name: What they are kept under: `original`, `candidate`, `random`, or `retrained` and a seed.
            model: The model.
            records: The records.

        Raises:
            MetricError: As `observe`.
        """
        key = name, records
        if key not in self._outputs:
            self._outputs[key] = self.observe(model, records)
        return self._outputs[key]
