"""Torch-free: what other installed packages offer through entry points.

A broken package is never left out silently: whoever collects a group refuses the whole of it, with a sentence
that names the package (docs/decisions/0003-catalog-and-planner.md).
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from models.errors import PluginError


@dataclass(frozen=True)
class Offer:
    """What one entry point loads."""

    entry_point: EntryPoint
    value: object

    @property
    def package(self) -> str:
        """Name of the installed package that makes the offer."""
        return _package(self.entry_point)

    def refusal(self, problem: str) -> PluginError:
        """Build the error that says why this offer cannot be taken."""
        return _refusal(self.entry_point, problem)


def offers(group: str) -> Iterator[Offer]:
    """Load every entry point of a group, in a fixed order.

    Raises:
        PluginError: An entry point cannot be imported, or importing it imports torch: offers are declared in
            modules that the HTTP process can import.
    """
    for entry_point in sorted(entry_points(group=group), key=lambda one: (_package(one), one.name)):
        had_torch = "torch" in sys.modules
        try:
            value: object = entry_point.load()
        except Exception as error:  # importing a stranger's module can raise anything
            raise _refusal(entry_point, f"it cannot be imported ({type(error).__name__}: {error})") from error
        if not had_torch and "torch" in sys.modules:
            raise _refusal(
                entry_point,
                "importing it imports torch, which the HTTP process must not; "
                "keep declarations in a module apart from the algorithms",
            )
        yield Offer(entry_point, value)


def _refusal(entry_point: EntryPoint, problem: str) -> PluginError:
    return PluginError(
        f"The installed package {_package(entry_point)!r} offers something that cannot be used (entry point "
        f"{entry_point.name} = {entry_point.value} of {entry_point.group}): {problem}. Repair or uninstall it."
    )


def _package(entry_point: EntryPoint) -> str:
    # An entry point that was found among installed packages knows its package; one made by hand does not.
    return entry_point.dist.name if entry_point.dist is not None else entry_point.value
