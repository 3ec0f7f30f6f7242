"""What the features of a graph's nodes are called; torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self


@dataclass(frozen=True)
class FeatureNames:
    """The names of a graph's features, by column: those given, else f0, f1, and so on."""

    width: int
    given: tuple[str, ...] | None = None

    def __getitem__(self, column: int) -> str:
        return f"f{column}" if self.given is None else self.given[column]

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def all(self) -> tuple[str, ...]:
        """Return every name, by column."""
        return tuple(self[column] for column in range(self.width)) if self.given is None else self.given

    def column(self, name: str) -> int:
        """Return a feature's column.

        Raises:
            KeyError: No feature has this name.
        """
        return self._columns[name]

    @cached_property
    def _columns(self) -> dict[str, int]:
        return {name: column for column, name in enumerate(self.all())}

    def to_facts(self) -> dict[str, Any]:
        """Return the names as JSON values for an index to note."""
        return {"width": self.width, "feature_names": None if self.given is None else list(self.given)}

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """Read back what an index has noted."""
        given = facts["feature_names"]
        return cls(facts["width"], None if given is None else tuple(given))
