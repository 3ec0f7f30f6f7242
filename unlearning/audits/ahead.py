"""References before anybody asks for them: the same ones, under the same keys, that an audit would train."""

from collections.abc import Callable
from typing import Any

from models.contracts import FamilyRuntime, ForgetSet, Progress
from unlearning.audits.policy import AuditPolicy
from unlearning.audits.references import ReferenceStore, ReferenceTrainer
from unlearning.audits.suites import get_shadow_pool


def train_ahead(
    runtime: FamilyRuntime,
    data: Any,
    forget: ForgetSet,
    *,
    reload: Callable[[], Any],
    policy: AuditPolicy,
    references: ReferenceStore,
    seed: int,
    progress: Progress,
) -> None:
    """Train what later audits will compare with; what the store has already costs nothing.

    Args:
        runtime: The model's family.
        data: All records of the snapshot that the model has learned.
        forget: What retrained references leave out. Empty: only shadow models are trained, which do not depend on it.
        reload: Loads the model whose recipe is repeated.
        policy: How many of each, and whether there are shadow models at all. Its budget of time is for those who wait.
        references: Where they are kept, each as soon as it is trained.
        seed: Of an audit's job; no reference has it.
        progress: Receives training's steps.

    Raises:
        MissingReferenceError: They cannot be trained; the message says why.
    """
    unhurried = policy.model_copy(update={"reference": "always"})
    trainer = ReferenceTrainer(
        runtime, reload, data, forget, unhurried, references, seed=seed, progress=progress
    )
    if forget.record_ids:
        trainer.retrained()
    if policy.deep or not forget.record_ids:
        parent = reload()
        shadow_pool = get_shadow_pool(str(runtime.describe(parent)["family"]))
        for _ in trainer.shadows(shadow_pool(parent, data, forget)):
            pass  # kept as soon as it is trained; one is held in memory at a time
