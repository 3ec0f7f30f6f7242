"""What the benchmarks share: fair timing, the machine they ran on, and printing."""

import ctypes
import importlib.metadata
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

PACKAGES = ("fastapi", "numpy", "scipy", "sqlalchemy", "torch", "uvicorn")


def environment() -> dict[str, Any]:
    """Describe machine and versions, so that a figure can be understood later."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def interleaved_medians(tasks: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Time tasks in turn and return the median seconds of each.

    Taking turns lets a busy moment of the machine fall on all of them, so that their ratios stay fair. Each turn
    begins with an untimed call, so that no task pays for caches and memory that the one before it left behind.
    """
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(repeats):
        for name, task in tasks.items():
            task()
            started = time.perf_counter()
            result = task()
            seconds[name].append(time.perf_counter() - started)
            del result  # only now: giving memory back is not part of the task
    return {name: statistics.median(measured) for name, measured in seconds.items()}


def peak_memory_mb() -> float:
    """Return the largest resident set this process has had, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


class PeakMemory:
    """How much this process grows from here on; on Linux, where the kernel can be told to count anew.

    >>> grown = PeakMemory().grown_mb()
    >>> grown is None or grown >= 0
    True
    """

    def __init__(self) -> None:
        """Begin to count."""
        self._before = self._reset()

    def grown_mb(self) -> float | None:
        """Return the growth at its peak in MiB, or None where that cannot be known."""
        return None if self._before is None else max(0.0, _status_mb("VmHWM") - self._before)

    @staticmethod
    def _reset() -> float | None:
        try:
            ctypes.CDLL(None).malloc_trim(0)  # or else the task works in memory that another one gave back
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        except (OSError, AttributeError):
            return None
        return _status_mb("VmRSS")


def print_table(figures: Mapping[str, Any], title: str = "") -> None:
    """Print figures, one a line."""
    table = Table("figure", "value", title=title or None)
    for name, value in figures.items():
        table.add_row(name, f"{value:.4g}" if isinstance(value, float) else str(value))
    Console().print(table)


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123 - a device file, read line by line
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _status_mb(name: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(f"{name}:"))) / 1024
