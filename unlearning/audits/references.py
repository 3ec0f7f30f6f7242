"""Models retrained without the forgotten records, only to be compared with: found, or trained within a budget.

A reference is named by what it depends on: the training records it has learned, the recipe, the seed. So one that
was made for an earlier audit serves again for as long as all three are the same, and one of other data or another
recipe is never found, let alone taken. Seeds run from a fixed first one for the same reason; the seed of the job,
from which a retrained *candidate* is made, is left out, so that no candidate is compared with itself.
"""

import hashlib
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import count, islice
from typing import Any, Protocol

from models.contracts import FamilyRuntime, ForgetSet, Progress
from models.errors import ModelsError
from unlearning.audits.policy import LEAST_REFERENCES, AuditPolicy
from unlearning.errors import MissingReferenceError

FIRST_SEED = 7_000_000
"""Seed of the first retrained reference; the others follow."""
FIRST_SHADOW_SEED = 8_000_000
"""Seed of the first shadow model."""


@dataclass(frozen=True)
class ReferenceKey:
    """What a reference depends on."""

    data: str
    """Digest of the training records it has learned, ids and contents."""
    recipe: str
    """Digest of how it was trained (`FamilyRuntime.recipe`)."""
    seed: int


@dataclass(frozen=True)
class Reference:
    """A model trained to be compared with."""

    key: ReferenceKey
    model: Any
    seconds: float
    """What training it took."""


@dataclass(frozen=True)
class Shadow:
    """A reference that has learned a random half of the records, for attacks on single examples."""

    reference: Reference
    trained_on: frozenset[str]


class ReferenceStore(Protocol):
    """Where references outlive an audit."""

    def find(self, key: ReferenceKey) -> Reference | None:
        """Return the reference of exactly this key, or None; a damaged one is not there."""
        ...

    def keep(self, reference: Reference) -> None:
        """Keep a reference for later; a store may decline by doing nothing."""
        ...


class InMemoryReferences:
    """A store that lives as long as its process."""

    def __init__(self) -> None:
        self._kept: dict[ReferenceKey, Reference] = {}

    def find(self, key: ReferenceKey) -> Reference | None:
        """Return the reference of this key, or None."""
        return self._kept.get(key)

    def keep(self, reference: Reference) -> None:
        """Keep a reference."""
        self._kept[reference.key] = reference


@dataclass(frozen=True)
class Retrained:
    """The retrained references of one job."""

    references: tuple[Reference, ...]
    cached: int
    """How many of them were there before."""
    note: str = ""
    """Why they are fewer than the policy asks for, in a sentence; empty where they are not."""

    @property
    def models(self) -> tuple[Any, ...]:
        """The models alone."""
        return tuple(reference.model for reference in self.references)

    @property
    def seconds(self) -> float:
        """What training all of them took, now or earlier."""
        return sum(reference.seconds for reference in self.references)


def recipe_digest(recipe: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a recipe.

    >>> recipe_digest({"a": 1, "b": 2}) == recipe_digest({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


class ReferenceTrainer:
    """Gives the references of one job, each trained at most once and only when first asked for.

    Args:
        runtime: The model's family.
        load: Loads the parent, which says how it was trained.
        data: All its records. Its data object offers `without(ids)`, `only(ids)`, `training()` and
            `training_digest()`.
        forget: What the references must not have learned.
        policy: Whether, how many, and within which time.
        store: Where references are looked for and kept.
        seed: The job's; no reference has it.
        progress: Receives training's steps, stages prefixed.
    """

    def __init__(
        self,
        runtime: FamilyRuntime,
        load: Callable[[], Any],
        data: Any,
        forget: ForgetSet,
        policy: AuditPolicy,
        store: ReferenceStore,
        *,
        seed: int,
        progress: Progress,
    ) -> None:
        self.runtime = runtime
        self._load = load
        self._data = data
        self._forget = forget
        self._policy = policy
        self._store = store
        self._seed = seed
        self._progress = progress
        self._spent = 0.0
        self._retrained: Retrained | MissingReferenceError | None = None

    @cached_property
    def _model(self) -> Any:
        """The parent, of which only the recipe is used."""
        try:
            return self._load()
        except ModelsError as error:
            raise MissingReferenceError(f"The original cannot be loaded anew: {error}") from error

    def retrained(self) -> Retrained:
        """Return models retrained on what remains, by other seeds than the job's.

        Raises:
            MissingReferenceError: There are none, or fewer than a bound needs; the message says why.
        """
        if self._retrained is None:
            try:
                self._retrained = self._gather()
            except MissingReferenceError as error:
                self._retrained = error
        if isinstance(self._retrained, MissingReferenceError):
            raise self._retrained
        return self._retrained

    def shadows(self, pool: Any) -> Iterator[Shadow]:
        """Yield shadow models, each trained on about half of `pool`'s records.

        Every record falls to exactly half of the shadows, chosen at random for it (Carlini et al. 2022, section
        V-A). Complementary halves would do that too, but two models that share out the records between them err in
        opposite directions, and what is left out of a fit must not be told by its counterpart.

        Args:
            pool: Records, all of which count as training records here.

        Raises:
            MissingReferenceError: The policy allows none, or its budget is spent.
        """
        self._check_permission()
        recipe = recipe_digest(self.runtime.recipe(self._model))
        count = self._policy.shadow_models // 2 * 2
        generator = random.Random(FIRST_SHADOW_SEED)  # noqa: S311 - chooses halves, guards nothing
        halves: list[list[str]] = [[] for _ in range(count)]
        for name in pool.ids:
            for place in generator.sample(range(count), count // 2):
                halves[place].append(name)
        for place, half in enumerate(halves):
            records = pool.only(half)
            key = ReferenceKey(records.training_digest(), recipe, FIRST_SHADOW_SEED + place)
            reference, _ = self._find_or_train(key, records, f"shadow model {place + 1}")
            yield Shadow(reference, frozenset(half))

    def _gather(self) -> Retrained:
        self._check_permission()
        remaining = self._data.without(self._forget.record_ids)
        if not len(remaining.training()):
            raise MissingReferenceError("No training records remain to retrain a reference on.")
        recipe = recipe_digest(self.runtime.recipe(self._model))
        digest = remaining.training_digest()
        wanted = self._policy.retrained_seeds
        found: list[Reference] = []
        cached, note = 0, ""
        for seed in _seeds_other_than(self._seed, wanted):
            key = ReferenceKey(digest, recipe, seed)
            try:
                self._check_budget(found)
                reference, was_there = self._find_or_train(key, remaining, f"reference {len(found) + 1}")
            except MissingReferenceError as error:
                if len(found) < LEAST_REFERENCES:
                    raise
                note = f"{len(found)} of {wanted} retrained references: {error}"
                break
            found.append(reference)
            cached += was_there
        return Retrained(tuple(found), cached, note)

    def _check_permission(self) -> None:
        if self._policy.reference == "never":
            raise MissingReferenceError("The policy allows no retrained references.")

    def _check_budget(self, found: list[Reference]) -> None:
        """Stop as soon as what was trained tells that what is still needed does not fit into the budget."""
        if self._policy.reference != "within_budget" or not self._spent:
            return
        each = sum(reference.seconds for reference in found) / len(found)
        needed = each * max(1, LEAST_REFERENCES - len(found))
        if self._spent + needed > self._policy.reference_seconds:
            raise MissingReferenceError(
                f"A reference takes about {each:.3g} s to retrain, and {self._spent:.3g} s of the budget of "
                f"{self._policy.reference_seconds:g} s are spent."
            )

    def _find_or_train(self, key: ReferenceKey, data: Any, name: str) -> tuple[Reference, bool]:
        """Return a reference and whether the store had it."""
        found = self._store.find(key)
        if found is not None:
            if found.key != key:
                raise MissingReferenceError(
                    "The store gave a reference of other data, another recipe or another seed."
                )
            return found, True
        started = time.perf_counter()
        try:
            model = self.runtime.retrain(
                self._model, data, seed=key.seed, progress=self._within_budget(name, started)
            )
        except ValueError as error:
            raise MissingReferenceError(f"A reference could not be retrained: {error}.") from error
        finally:
            self._spent += time.perf_counter() - started
        reference = Reference(key, model, time.perf_counter() - started)
        self._store.keep(reference)
        return reference, False

    def _within_budget(self, name: str, started: float) -> Progress:
        """Return a receiver of progress that ends the training once the budget is spent."""
        limit = self._policy.reference_seconds if self._policy.reference == "within_budget" else None

        def report(stage: str, step: int, of: int, figures: Mapping[str, float] | None = None, /) -> None:  # noqa: ARG001 - part of the contract; a reference's curves are not shown
            if limit is not None and self._spent + time.perf_counter() - started > limit:
                raise MissingReferenceError(f"The budget of {limit:g} s for references is spent.")
            self._progress(f"{name}: {stage}", step, of)

        return report


def _seeds_other_than(seed: int, wanted: int) -> Iterator[int]:
    return islice((number for number in count(FIRST_SEED) if number != seed), wanted)
