"""Torch-free: the spec of the misbehaving method."""

from typing import Literal

from pydantic import Field

from unlearning.catalog.spec import CostInput, Guarantee, MethodConfig, MethodSpec

GIBIBYTE = 1 << 30


class MisbehaveConfig(MethodConfig):
    """Which way to misbehave."""

    how: Literal[
        "raise",
        "allocate",
        "allocate_tensors",
        "sleep",
        "sleep_deaf",
        "return_unchanged",
        "return_nothing",
        "kill_itself",
        "change_input",
    ] = Field("raise", description="`sleep_deaf` ignores SIGTERM and SIGINT; the others are what they say.")
    message: str = Field("misbehaving on purpose", description="What `raise` says.")
    stop_allocating_at: int = Field(
        4 * GIBIBYTE,
        ge=1,
        description="Bytes at which allocating gives up, so that a test without a limit spares its machine.",
    )
    once: str | None = Field(
        None,
        description="Path of a file: where it exists, retrain properly; where not, make it, then misbehave.",
    )


def _dear(_sizes: CostInput) -> float:
    """Cost more than any other method, so that `auto` puts it behind them."""
    return 1e18


MISBEHAVE = MethodSpec(
    family="classifier",
    name="misbehave",
    title="Misbehaving",
    summary="Does what its parameters say, and nothing good.",
    targets=frozenset({"records", "subjects", "classes"}),
    # Claimed, not kept: an audit has to find that out.
    guarantee=Guarantee.EXACT,
    architectures=None,
    needs=frozenset(),
    config=MisbehaveConfig,
    paper="none: it exists for tests",
    implementation="expunge_misbehaving.methods:run",
    cost=_dear,
)
