"""Reading a model must leave it as it was, whatever it is."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def reading(model: Any) -> Iterator[None]:
    """Leave a model and the global random state as they were, whatever is computed with it.

    A plug-in's network may drop units at random, or update running statistics while it is in training mode: so
    gradients are off, modules are in evaluation mode and go back to the mode they had, and the global random
    generators get back their state.
    """
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    modes = [module.training for module in modules]
    with torch.random.fork_rng(), torch.no_grad():
        try:
            for module in modules:
                module.training = False
            yield
        finally:
            for module, mode in zip(modules, modes, strict=True):
                module.training = mode
