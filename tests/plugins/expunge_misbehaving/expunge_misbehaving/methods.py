"""The misbehaving method itself."""

import copy
import os
import signal
import time
from pathlib import Path

import torch

from unlearning.catalog import get_method

BLOCK_BYTES = 64 << 20


def run(model, data, forget, config, *, generator, progress):
    """Misbehave as configured; a report of progress comes first, so that a test can wait for it."""
    progress("misbehaving", 0, 1)
    if config.once is not None:
        if Path(config.once).exists():
            return _retrain(model, data, forget, generator=generator, progress=progress)
        Path(config.once).touch()
    match config.how:
        case "raise":
            raise RuntimeError(config.message)
        case "allocate":
            _allocate(lambda: bytearray(os.urandom(1)) * BLOCK_BYTES, config.stop_allocating_at)
        case "allocate_tensors":
            _allocate(lambda: torch.ones(BLOCK_BYTES, dtype=torch.uint8), config.stop_allocating_at)
        case "sleep" | "sleep_deaf":
            _sleep_forever(deaf=config.how == "sleep_deaf")
        case "kill_itself":
            os.kill(os.getpid(), signal.SIGKILL)
        case "change_input":
            changed = copy.copy(model)
            model.head.mul_(0.5)
            return changed
        case "return_nothing":
            return None
    return model


def _retrain(model, data, forget, *, generator, progress):
    spec = get_method("classifier", "retrain")
    return spec.load()(model, data, forget, spec.configure({}), generator=generator, progress=progress)


def _allocate(block, stop_at):
    held = []
    while len(held) * BLOCK_BYTES < stop_at:
        held.append(block())
    raise RuntimeError(f"nothing stopped the allocation of {stop_at} bytes")


def _sleep_forever(*, deaf):
    if deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        time.sleep(60)
