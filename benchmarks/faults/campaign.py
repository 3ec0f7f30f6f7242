"""One campaign on one database: faults, clients all the while, then rest and a verdict."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from app.database import Database
from app.storage import Storage
from benchmarks.faults.clients import Clients, Ledger
from benchmarks.faults.fleet import Deck, Fleet, journal_lines
from benchmarks.faults.house import DatabaseServer, House, database_server, small_disk
from benchmarks.faults.judgement import Judge, Span, Watch, at_rest, left_over
from benchmarks.faults.points import DAMAGES, FULL_DISKS, HALTS, POINTS, Fault
from benchmarks.faults.scenarios import Scenarios, jumped_clocks, skewed_clocks, wait_for, workers_with_clocks

RECORDS = 1797
DISK_MEGABYTES = 4096


@dataclass(frozen=True)
class Sizes:
    """How much is done to one database."""

    kills: int
    halts: int
    full_disks: int
    damages: int
    restarts: int
    published_by_skewed: int
    """Versions that workers with clocks of their own must publish before their part is over; 0 leaves it out."""
    jump_seconds: float
    at_rest: bool = True
    """Whether stored files are damaged, and the disk is filled up, besides."""
    lease_seconds: float = 2.0
    pairs: int = 4
    """Data sets with two models each, that workers compete for."""
    armed: int = 3
    sound: int = 2
    """Workers that no fault strikes: a takeover shall not have to wait for one that is free."""
    stalled_seconds: float = 150.0
    """Without a strike; beyond it the campaign has failed. A worker gives up its faults after a fifth of that."""


FULL = Sizes(
    kills=5 * len(POINTS),
    halts=3 * len(HALTS),
    full_disks=3 * len(FULL_DISKS),
    damages=4 * len(DAMAGES),
    restarts=6,
    published_by_skewed=20,
    jump_seconds=20.0,
)
QUICK = Sizes(
    kills=30,
    halts=3,
    full_disks=3,
    damages=2,
    restarts=2,
    published_by_skewed=2,
    jump_seconds=4.0,
)
SLICE = Sizes(
    kills=4,
    halts=1,
    full_disks=1,
    damages=1,
    restarts=0,
    published_by_skewed=0,
    jump_seconds=0.0,
    at_rest=False,
    pairs=1,
)


def run_campaign(
    kind: str, sizes: Sizes, workspace: Path, context: ForkServerContext, *, seed: int
) -> dict[str, Any]:
    """Run a whole campaign and return its figures."""
    workspace.mkdir(mode=0o700)
    with (
        database_server(kind, workspace) as server,
        small_disk(workspace, DISK_MEGABYTES, wanted=sizes.at_rest) as disk,
    ):
        storage = (disk or workspace) / "storage"
        house = House.build(server, workspace, storage, lease_seconds=sizes.lease_seconds)
        with house.api():
            # The last model stands alone over its data, which a scenario damages.
            house.register(2 * sizes.pairs + 1, RECORDS)
            return _Campaign(server, house, context, sizes, disk, seed).run()


class _Campaign:
    def __init__(
        self,
        server: DatabaseServer,
        house: House,
        context: ForkServerContext,
        sizes: Sizes,
        disk: Path | None,
        seed: int,
    ) -> None:
        self._server = server
        self._house = house
        self._context = context
        self._sizes = sizes
        self._disk = disk
        self._seed = seed
        self._ledger = Ledger(resting={house.models[-1]})
        self._database = Database(house.settings.database_url, pool_size=4)
        self._storage = Storage(house.settings.storage_url, house.settings.cache_dir)
        self._scenarios = Scenarios(house, self._database, self._ledger)
        self._journal = house.workspace / "journal.jsonl"
        self._away: list[Span] = []
        self._figures: dict[str, Any] = {}

    def run(self) -> dict[str, Any]:
        began = time.monotonic()
        try:
            with (
                Watch(self._database) as watch,
                Clients(self._house, self._ledger, seed=self._seed) as clients,
            ):
                self._strike()
                self._figures["seconds_under_fire"] = time.monotonic() - began
                self._skew_clocks()
                self._judge_times(watch)
                self._jump_clocks()
                clients.hush()
                self._come_to_rest()
            self._judge(watch)
        finally:
            self._database.dispose()
        self._figures["seconds"] = time.monotonic() - began
        return self._figures

    def _strike(self) -> None:
        sizes = self._sizes
        extras = [
            *_some(HALTS, sizes.halts),
            *_some(FULL_DISKS, sizes.full_disks),
            *_some(DAMAGES, sizes.damages),
        ]
        deck = Deck([Fault(point) for point in POINTS], kills=sizes.kills, extras=extras, seed=self._seed)
        plan = self._plan()
        with Fleet(
            self._house.settings,
            self._context,
            self._house.workspace,
            deck,
            armed=sizes.armed,
            sound=sizes.sound,
        ) as fleet:
            while plan or not fleet.all_struck:
                fleet.check()
                if plan and fleet.kills.total() >= plan[0][0] * sizes.kills:
                    plan.pop(0)[1]()
                if fleet.seconds_since_strike > sizes.stalled_seconds:
                    raise TimeoutError(
                        f"{fleet.kills.total()} of {sizes.kills} kills, then none for {sizes.stalled_seconds:g} s: "
                        f"{fleet.describe()}; {self._scenarios.describe()}"
                    )
                time.sleep(0.05)
            # Whoever died last must be taken over while there is somebody to do it.
            wait_for(self._scenarios.nobody_is_missing, "the last takeovers")
            self._figures |= {
                "kills": fleet.kills.total(),
                "halts": fleet.halts,
                "points_struck": len(fleet.kills),
                "points": len(POINTS),
                "kills_by_point": {point.name: fleet.kills[point.name] for point in POINTS},
            }

    def _plan(self) -> list[tuple[float, Callable[[], None]]]:
        """Return what is done besides, each with the share of the kills that it waits for."""
        alone = self._house.models[-1]
        plan: list[tuple[float, Callable[[], None]]] = []
        if self._sizes.at_rest:
            plan.append((0.1, lambda: self._scenarios.damaged_parent(alone)))
            plan.append((0.3, lambda: self._scenarios.damaged_snapshot(alone)))
        self._figures["at_rest_damages"] = len(plan)
        if self._sizes.at_rest and self._disk is not None:
            plan.append((0.5, self._fill_disk))
        restarts = self._sizes.restarts if self._server.kind == "postgresql" else 0
        for number in range(restarts):
            mode = ("immediate", "fast")[number % 2]
            plan.append((0.2 + 0.6 * number / restarts, lambda mode=mode: self._restart(mode)))  # type: ignore[misc]
        self._figures["restarts"] = restarts
        return sorted(plan, key=lambda step: step[0])

    def _fill_disk(self) -> None:
        if self._disk is not None:
            models = self._house.models[:4]
            self._figures["jobs_failed_of_full_disk"] = self._scenarios.full_disk(self._disk, models)

    def _restart(self, mode: str) -> None:
        self._away.append(self._scenarios.restart(self._server, mode))

    def _skew_clocks(self) -> None:
        wanted = self._sizes.published_by_skewed
        if not wanted:
            return
        how, clocks = skewed_clocks(self._server.kind)
        with workers_with_clocks(self._house, self._context, self._journal, clocks):
            wait_for(lambda: self._published_by("skewed-") >= wanted, "workers whose clocks are off", 120)
        self._figures |= {
            "clocks_skewed_by": how,
            "published_by_skewed": self._published_by("skewed-"),
            "taken_over_from_skewed": self._scenarios.taken_over(self._workers("skewed-")),
        }

    def _jump_clocks(self) -> None:
        if not self._sizes.jump_seconds:
            return
        with workers_with_clocks(self._house, self._context, self._journal, jumped_clocks()):
            time.sleep(self._sizes.jump_seconds)
        self._figures |= {
            "published_by_jumped": self._published_by("jumped-"),
            "taken_over_in_jump": self._scenarios.taken_over(self._workers("jumped-")),
        }

    def _come_to_rest(self) -> None:
        with workers_with_clocks(self._house, self._context, self._journal, {}):
            wait_for(lambda: at_rest(self._database), "the service to come to rest", 120)

    def _published_by(self, prefix: str) -> int:
        lines = journal_lines(self._journal)
        return sum("published" in line and line["worker"].startswith(prefix) for line in lines)

    def _workers(self, prefix: str) -> set[int]:
        """Return the process ids of the workers with such names."""
        lines = journal_lines(self._journal)
        return {line["pid"] for line in lines if "ready" in line and line["worker"].startswith(prefix)}

    def _judge_times(self, watch: Watch) -> None:
        """Judge what goes by the database's clock, before that clock jumps."""
        judge = Judge(self._database, self._storage)
        takeovers = judge.takeovers(journal_lines(self._journal), self._away)
        watch.overlaps += judge.overlapping()
        self._figures |= {
            "lease_s": self._sizes.lease_seconds,
            "takeovers": len(takeovers),
            "takeover_max_s": max(takeovers, default=0.0),
            "takeover_median_s": sorted(takeovers)[len(takeovers) // 2] if takeovers else 0.0,
        }

    def _judge(self, watch: Watch) -> None:
        journal = journal_lines(self._journal)
        verdict = Judge(self._database, self._storage).judge(self._ledger, journal)
        half_written = [*self._ledger.half_written, *verdict.damaged_at_rest]
        found = {
            "lost": verdict.lost,
            "published_twice": verdict.published_twice,
            "overlaps": watch.overlaps,
            "stale_accepted": verdict.stale_accepted,
            "half_written_visible": half_written,
            "wrong_answers": self._ledger.faults,
        }
        strikes = [line for line in journal if "strike" in line]
        self._figures |= {name: len(faults) for name, faults in found.items()}
        self._figures |= verdict.counts | dict(self._ledger.counts)
        self._figures |= left_over(Path(self._house.settings.storage_url), self._database)
        self._figures |= {
            "workers_started_again": sum("started_again" in line for line in journal),
            "disks_full": sum(line["action"] == "full" for line in strikes),
            "candidates_damaged": sum(line["action"] in {"flip", "tear"} for line in strikes),
            "full_disk_is": "a tmpfs, and ENOSPC raised at writes"
            if self._disk
            else "ENOSPC raised at writes",
            "versions_looked_at": watch.looks,
            "findings": {name: faults[:10] for name, faults in found.items() if faults},
        }


def violations(figures: dict[str, Any], sizes: Sizes) -> list[str]:
    """Return what the figures of one database say against the service, or against the campaign itself."""
    broken = [
        f"{name} is {figures[name]}, not 0"
        for name in (
            "lost",
            "published_twice",
            "overlaps",
            "stale_accepted",
            "half_written_visible",
            "wrong_answers",
        )
        if figures[name]
    ]
    if figures["takeover_max_s"] > 2 * figures["lease_s"]:
        broken.append(f"a takeover took {figures['takeover_max_s']:.2f} s, more than two leases")
    if figures.get("taken_over_from_skewed"):
        broken.append("jobs were taken from workers whose own clocks were off")
    for name, least in (
        ("kills", sizes.kills),
        ("halts", sizes.halts),
        ("disks_full", sizes.full_disks),
        ("candidates_damaged", sizes.damages),
        ("takeovers", 1),
        ("versions_read", 1),
        ("completed", 1),
    ):
        if figures.get(name, 0) < least:
            broken.append(
                f"{name} is only {figures.get(name, 0)} of {least}: the campaign has shown too little"
            )
    return broken


def _some(faults: tuple[Fault, ...], count: int) -> list[Fault]:
    return [faults[number % len(faults)] for number in range(count)]
