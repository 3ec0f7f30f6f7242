"""Scaling down: shrink the head's columns of forgotten classes, so that they are hardly ever predicted.

Guarantee: empirical, and a weak one. Limits: the other columns and the statistics still carry what the class taught
them. It is a baseline that an audit is expected to catch, and an example of the smallest possible method.
"""

import dataclasses


def run(model, data, forget, config, *, generator, progress):
    """Return `model` with smaller columns for the forgotten classes; `model` is left as it was."""
    head = model.head.clone()  # (d, classes)
    for step, name in enumerate(forget.classes):
        head[:, model.config.classes.index(name)] *= config.factor
        progress("scaling down", step + 1, len(forget.classes))
    return dataclasses.replace(model, head=head)
