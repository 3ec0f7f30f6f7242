"""A slice of the fault campaign. How long takeovers take is the benchmark's question: here the machine may be busy."""

import json
import subprocess
import sys

import pytest

from benchmarks.faults.campaign import SLICE
from benchmarks.faults.fleet import Deck
from benchmarks.faults.points import DAMAGES, FULL_DISKS, HALTS, POINTS, Fault, Victim, resolve

NEVER = {"lost", "published_twice", "overlaps", "stale_accepted", "half_written_visible", "wrong_answers"}


@pytest.mark.parametrize(
    "fault", [*map(Fault, POINTS), *FULL_DISKS, *DAMAGES], ids=lambda one: one.point.name
)
def test_every_point_is_a_function_of_the_service(fault):
    _, _, function = resolve(fault.point.where)
    assert callable(function)


def test_a_point_that_no_longer_exists_is_named():
    with pytest.raises(LookupError, match="worker:forgotten"):
        resolve("app.worker.worker:forgotten")


def test_a_deck_deals_every_point_equally_often_and_what_a_worker_survives_first():
    deck = Deck([Fault(point) for point in POINTS], kills=3 * len(POINTS), extras=HALTS, seed=1)
    hands = []
    while hand := deck.deal():
        hands.append(hand)
    dealt = [fault for hand in hands for fault in hand]
    assert all(dealt.count(Fault(point)) == 3 for point in POINTS)
    assert all(dealt.count(halt) == 1 for halt in HALTS)
    for hand in hands:
        assert not any(fault.ends_worker for fault in hand[:-1])
        victims = [fault.point.victim for fault in hand]
        if Victim.FORKSERVER in victims:
            # Jobs of the next forkserver are not armed, so nothing inside a job may come after its death.
            after = hand[victims.index(Victim.FORKSERVER) :]
            assert not any(fault.point.inside_job for fault in after)


@pytest.mark.postgresql
@pytest.mark.timeout(300)
def test_a_slice_of_the_campaign_finds_nothing_lost_doubled_or_torn():
    command = [sys.executable, "-m", "benchmarks.faults", "--slice", "--json"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert run.stdout, run.stderr
    databases = json.loads(run.stdout)["databases"]
    assert databases.keys() == {"sqlite", "postgresql"}
    for figures in databases.values():
        assert {name: figures[name] for name in NEVER} == dict.fromkeys(NEVER, 0), figures["findings"]
        assert figures["kills"] == SLICE.kills
        assert (figures["halts"], figures["disks_full"], figures["candidates_damaged"]) == (1, 1, 1)
        assert figures["completed"] >= 1
        assert figures["versions_read"] >= 1
        assert {"takeover_max_s", "lease_s", "kills_by_point"} <= figures.keys()
