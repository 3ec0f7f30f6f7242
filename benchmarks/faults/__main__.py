"""Does anything a client was told get lost, doubled or torn when processes, disks, clocks and databases fail?

On SQLite and on PostgreSQL (from a wheel), with the service's own API and real workers, real jobs and their real
executor, while clients submit, cancel, decide and download all the time:

- SIGKILL at named points between every two steps of claim, work, publish and settle (`benchmarks.faults.points`),
  of the worker, of the job's process and of the forkserver;
- SIGSTOP past the lease, then SIGCONT; restarts of PostgreSQL; full disks; candidates, versions and snapshots with a
  bit turned over or half a file missing; workers' clocks that are off by ten minutes, and a database's.

It prints what happened and asserts, for each database: acknowledged requests `lost` 0, `published_twice` 0, `overlaps`
(two active jobs of one model) 0, `stale_accepted` 0, `half_written_visible` 0, `takeover_max_s` within two leases.
"""

import argparse
import json
import multiprocessing
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.faults.campaign import FULL, QUICK, SLICE, Sizes, run_campaign, violations
from benchmarks.faults.house import nursery
from benchmarks.harness import environment, print_table

DATABASES = ("sqlite", "postgresql")


def measure(kinds: list[str], sizes: Sizes, workspace: Path, *, seed: int) -> dict[str, Any]:
    """Run the campaigns and return each database's figures."""
    context = nursery()
    try:
        return {kind: run_campaign(kind, sizes, workspace / kind, context, seed=seed) for kind in kinds}
    finally:
        # Only a campaign that failed itself leaves any; a halted one would be waited for without end.
        for child in multiprocessing.active_children():
            child.kill()


def main() -> None:
    """Run the campaigns, print, and end with status 1 if anything is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="30 kills a database")
    parser.add_argument("--slice", action="store_true", help="a few kills: what the tests run")
    parser.add_argument("--database", choices=DATABASES, action="append", help="only this one")
    parser.add_argument("--kills", type=int, help="another number of kills a database")
    parser.add_argument("--seed", type=int, default=0, help="another order of faults")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    sizes = SLICE if arguments.slice else QUICK if arguments.quick else FULL
    if arguments.kills is not None:
        sizes = replace(sizes, kills=arguments.kills)
    kinds = arguments.database or list(DATABASES)
    with tempfile.TemporaryDirectory(prefix="expunge-faults-", ignore_cleanup_errors=True) as workspace:
        databases = measure(
            kinds,
            sizes,
            Path(workspace),
            seed=arguments.seed,
        )
    if arguments.json:
        print(json.dumps({"databases": databases, "seed": arguments.seed, "environment": environment()}))
    else:
        for kind, figures in databases.items():
            print_table(figures, title=kind)
    broken = [f"{kind}: {what}" for kind in kinds for what in violations(databases[kind], sizes)]
    for what in broken:
        print(what, file=sys.stderr)
    sys.exit(bool(broken))


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """End as Ctrl-C does, so that everything that was started ends too."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
