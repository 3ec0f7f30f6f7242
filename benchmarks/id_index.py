"""How long does it take to find out which of 1,000 ids a data set of ten million records has?

The index is built once, in bounded memory, of records with subjects and classes. Each look-up asks for fresh random
ids, half of them unknown. *Warm*, the system has the file's pages in memory; *cold*, they are dropped before each
look-up, which then waits for the disk: this is the first request after a start. Dropping needs no rights, for it
concerns the index's own file alone (`posix_fadvise`); where the system has no such call, cold is not measured.

Beside it, a look-up without an index: reading the ids from a file, one a line, and comparing them.

    python -m benchmarks.id_index [--json] [--quick]
"""

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import environment, peak_memory_mb, print_table
from models.id_index import IdIndex

SEED = 0
RECORDS_PER_SUBJECT = 10
CLASSES = 10


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    records: int
    asked: int
    warm: int
    cold: int


FULL = Sizes(records=10_000_000, asked=1000, warm=200, cold=30)
QUICK = Sizes(records=20_000, asked=100, warm=5, cold=3)


def record_id(number: int) -> str:
    """Name a record."""
    return f"record-{number:08d}"


def subject_id(number: int) -> str:
    """Name a subject."""
    return f"user-{number:07d}"


def build(path: Path, records: int) -> float:
    """Build the index and return the seconds it took."""
    started = time.perf_counter()
    IdIndex.build(
        path,
        ids=map(record_id, range(records)),
        subjects=(subject_id(number // RECORDS_PER_SUBJECT) for number in range(records)),
        classes=(str(number % CLASSES) for number in range(records)),
    )
    return time.perf_counter() - started


def drop_from_memory(path: Path) -> None:
    """Have the system forget its copy of a file; what was never written to disk cannot be dropped, so it is first."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def time_look_ups(
    look_up: Callable[[list[str]], Collection[str]],
    questions: Iterable[list[str]],
    before: Callable[[], None] | None = None,
) -> list[float]:
    """Return each look-up's milliseconds; `before` runs untimed ahead of each."""
    measured = []
    for ids in questions:
        if before is not None:
            before()
        started = time.perf_counter()
        missing = look_up(ids)
        measured.append(1e3 * (time.perf_counter() - started))
        assert len(missing) == len(ids) // 2
    return measured


def ask(draw: random.Random, name: Callable[[int], str], count: int, asked: int) -> list[str]:
    """Draw `asked` names in random order: half of them of the `count` that there are, half of others."""
    known = draw.sample(range(count), asked - asked // 2)
    unknown = draw.sample(range(count, 2 * count), asked // 2)
    names = [name(number) for number in known + unknown]
    draw.shuffle(names)
    return names


def scan(path: Path, ids: list[str]) -> set[str]:
    """Find the missing ids by reading them all."""
    missing = set(ids)
    with path.open(encoding="ascii") as lines:
        for line in lines:
            missing.discard(line.rstrip())
    return missing


def measure(sizes: Sizes) -> dict[str, Any]:
    """Answer the question."""
    draw = random.Random(SEED)  # noqa: S311 - reproducible questions, not secrets
    with tempfile.TemporaryDirectory(prefix="expunge-id-index-") as directory:
        path, listing = Path(directory) / "index.sqlite", Path(directory) / "ids.txt"
        figures = {"build_s": build(path, sizes.records), "peak_rss_mb": peak_memory_mb()}
        with listing.open("w", encoding="ascii") as file:
            file.writelines(f"{record_id(number)}\n" for number in range(sizes.records))
        subjects = sizes.records // RECORDS_PER_SUBJECT
        with IdIndex.open(path) as index:
            ways = {
                "": (index.missing_records, record_id, sizes.records),
                "subjects_": (index.missing_subjects, subject_id, subjects),
            }
            for prefix, (look_up, name, count) in ways.items():
                questions = [ask(draw, name, count, sizes.asked) for _ in range(sizes.warm)]
                time_look_ups(look_up, questions)
                warm = time_look_ups(look_up, questions)
                figures[f"{prefix}warm_p50_ms"] = statistics.median(warm)
                figures[f"{prefix}warm_p99_ms"] = statistics.quantiles(warm, n=100, method="inclusive")[-1]
                if hasattr(os, "posix_fadvise"):
                    cold = time_look_ups(look_up, questions[: sizes.cold], lambda: drop_from_memory(path))
                    figures[f"{prefix}cold_p50_ms"] = statistics.median(cold)
                    figures[f"{prefix}cold_max_ms"] = max(cold)
        question = ask(draw, record_id, sizes.records, sizes.asked)
        figures["scan_ms"] = time_look_ups(lambda ids: scan(listing, ids), [question])[0]
        return {
            **figures,
            "records": sizes.records,
            "asked": sizes.asked,
            "index_mb": path.stat().st_size / (1 << 20),
            "seed": SEED,
        }


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    arguments = parser.parse_args()
    figures = measure(QUICK if arguments.quick else FULL)
    if arguments.json:
        print(json.dumps({**figures, "environment": environment()}))
        return
    print_table(figures, "Id index")


if __name__ == "__main__":
    main()
