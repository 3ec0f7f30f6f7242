"""Dropping a class from a nearest-mean classifier: its sum and its count become zero.

Guarantee: exact. Each class's mean is made from its own records alone, so the others are, bit for bit, what fitting
on the remaining classes gives. Limits: whole classes only.
"""

import dataclasses

from unlearning.errors import MethodUnsuitableError


def run(model, data, forget, config, *, generator, progress):
    """Return `model` without the forgotten classes; `model` is left as it was."""
    dropped = [model.classes.index(name) for name in forget.classes]
    named = data.only(forget.record_ids)
    if len(named.without_classes(forget.classes)):
        raise MethodUnsuitableError(
            "Single records are to be forgotten too; drop_class forgets whole classes."
        )
    sums, counts = model.sums.clone(), model.counts.clone()
    sums[dropped] = 0
    counts[dropped] = 0
    progress("dropping classes", len(dropped), len(dropped))
    return dataclasses.replace(model, sums=sums, counts=counts)
