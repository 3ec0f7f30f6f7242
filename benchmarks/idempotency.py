"""Do ten thousand submissions at once, with repeated idempotency keys, make exactly one request per key?

On SQLite and on PostgreSQL from a wheel, with two API processes over real sockets: 2,000 keys are sent five times
each in random order over many connections, one repetition in twenty with another body. Every key must come to
one forget request, every repetition must be answered with that same request, another body with 422, and nothing
with a status of 500 or above but 503 with `Retry-After`, after which the client tries again.
"""

import argparse
import asyncio
import contextlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import func, select

from app.database import Database
from app.settings import child_environment
from app.tables import Event, ForgetRequest, IdempotencyRecord
from benchmarks.faults.house import House, database_server
from benchmarks.harness import environment, print_table
from benchmarks.http_load import request_bytes
from benchmarks.service import answers, free_port, wait_until

API_PROCESSES = 2
ALTERED_ONE_IN = 20
MOST_TRIES = 50
READY_SECONDS = 60.0
REFUSED, UNAVAILABLE, ACCEPTED, SERVER_ERROR = 422, 503, 202, 500


@dataclass(frozen=True)
class Sizes:
    """How much is sent."""

    keys: int
    repeats: int
    connections: int
    records: int = 200


FULL = Sizes(keys=2000, repeats=5, connections=64)
QUICK = Sizes(keys=200, repeats=5, connections=32)


@dataclass(frozen=True)
class Submission:
    """One call: a key, and whether its body is another than the key's own."""

    key: str
    altered: bool
    content: bytes


@dataclass
class Tally:
    """What came back."""

    ids: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Key -> ids of the requests it was answered with."""
    refused: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def submissions(
    url: str, secret: str, model: str, records: Sequence[str], sizes: Sizes, seed: int
) -> list[Submission]:
    """Return every call in random order; a key's first call always has its own body, others now and then another."""
    dice = random.Random(seed)  # noqa: S311 - the order of calls is no secret
    calls = []
    for number in range(sizes.keys):
        key = f"key-{number}"
        own, other = (_content(url, secret, key, model, record) for record in dice.sample(records, 2))
        for repeat in range(sizes.repeats):
            altered = repeat > 0 and dice.randrange(ALTERED_ONE_IN) == 0
            calls.append(Submission(key, altered, other if altered else own))
    dice.shuffle(calls)
    return calls


def _content(url: str, secret: str, key: str, model: str, record: str) -> bytes:
    headers = {
        "Authorization": f"Bearer {secret}",
        "Content-Type": "application/json",
        "Idempotency-Key": key,
    }
    body = {"model": model, "target": {"kind": "records", "ids": [record]}}
    return request_bytes("POST", f"{url}/v1/forget-requests", headers, json.dumps(body).encode())


async def send(urls: list[str], calls: list[Submission], connections: int) -> Tally:
    """Send every call once, over connections that are shared out among the API's processes."""
    tally = Tally()
    queue = iter(calls)

    async def work(url: str) -> None:
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        for call in queue:
            await _send_one(reader, writer, call, tally)
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(work(urls[number % len(urls)]) for number in range(connections)))
    return tally


async def _send_one(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, call: Submission, tally: Tally
) -> None:
    for _ in range(MOST_TRIES):
        writer.write(call.content)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        body = await reader.readexactly(length)
        status = int(head[9:12])
        tally.statuses[status] += 1
        if status == UNAVAILABLE and b"\r\nretry-after:" in head:
            await asyncio.sleep(0.2)
            continue
        _note(call, status, body, tally)
        return
    tally.wrong.append(f"{call.key}: no answer in {MOST_TRIES} tries")


def _note(call: Submission, status: int, body: bytes, tally: Tally) -> None:
    if status == ACCEPTED:
        tally.ids[call.key].add(json.loads(body)["id"])
    elif status == REFUSED:
        tally.refused[call.key] += 1
    if status not in {ACCEPTED, REFUSED}:
        tally.wrong.append(f"{call.key}: {status} {body[:200]!r}")


@contextlib.contextmanager
def api_processes(house: House, count: int) -> Iterator[list[str]]:
    """Run the API in several processes; yields their addresses."""
    with contextlib.ExitStack() as stack:
        urls = []
        for number in range(count):
            settings = house.settings.model_copy(update={"port": free_port()})
            log = stack.enter_context((house.workspace / f"api-{number}.log").open("wb"))
            child = subprocess.Popen(
                [sys.executable, "-m", "app.cli", "api"],
                env=child_environment(settings),
                stdout=log,
                stderr=log,
            )
            stack.callback(_end, child)
            urls.append(f"http://127.0.0.1:{settings.port}")
        for url in urls:
            wait_until(partial(answers, f"{url}/healthz"), "the API's start", READY_SECONDS, pause=0.05)
        yield urls


def _end(child: "subprocess.Popen[bytes]") -> None:
    child.kill()
    child.wait()


def measure(kind: str, sizes: Sizes, workspace: Path, *, seed: int = 0) -> dict[str, Any]:
    """Send everything to a fresh service and count what it has made of it."""
    workspace.mkdir(mode=0o700)
    with database_server(kind, workspace) as server:
        house = House.build(server, workspace, workspace / "storage", lease_seconds=30.0)
        with house.api():
            house.register(1, 1797)
        with api_processes(house, API_PROCESSES) as urls:
            records = house.pools["model-0"][: sizes.records]
            calls = submissions(house.url, house.key, "model-0", records, sizes, seed)
            began = time.perf_counter()
            tally = asyncio.run(send(urls, calls, sizes.connections))
            seconds = time.perf_counter() - began
        figures = judge(server.url, sizes, calls, tally)
    return figures | {
        "api_processes": len(urls),
        "connections": sizes.connections,
        "submissions_per_s": len(calls) / seconds,
        "seconds": seconds,
    }


def judge(url: str, sizes: Sizes, calls: list[Submission], tally: Tally) -> dict[str, Any]:
    """Compare what the clients were told with what the database holds."""
    database = Database(url)
    with database.read() as session:
        requests = session.scalar(select(func.count()).select_from(ForgetRequest)) or 0
        records = session.scalar(select(func.count()).select_from(IdempotencyRecord)) or 0
        received = session.scalar(select(func.count()).select_from(Event)) or 0
        stored = {str(found) for found in session.scalars(select(ForgetRequest.id))}
    database.dispose()
    told = set().union(*tally.ids.values())
    # Whichever body of a key comes first is the key's own from then on, so either kind may be refused.
    bodies: dict[str, Counter[bool]] = defaultdict(Counter)
    for call in calls:
        bodies[call.key][call.altered] += 1
    expected = [key for key, kinds in bodies.items() if tally.refused[key] not in _refusals(kinds)]
    return {
        "submissions": len(calls),
        "keys": sizes.keys,
        "requests": requests,
        "idempotency_records": records,
        "first_events": received,
        "keys_with_two_requests": sum(len(ids) > 1 for ids in tally.ids.values()),
        "acknowledged_and_lost": len(told - stored),
        "refused_with_422": tally.statuses[REFUSED],
        "keys_with_wrong_refusals": len(expected),
        "told_to_come_back": tally.statuses[UNAVAILABLE],
        "wrong_answers": len(tally.wrong),
        "findings": tally.wrong[:5],
    }


def _refusals(kinds: Counter[bool]) -> set[int]:
    """Return how often a key may have been refused: as often as the body that came second was sent."""
    return {kinds[True], kinds[False]} if kinds[True] else {0}


def violations(figures: dict[str, Any]) -> list[str]:
    """Return what the figures of one database say against the service."""
    zero = (
        "keys_with_two_requests",
        "acknowledged_and_lost",
        "keys_with_wrong_refusals",
        "wrong_answers",
    )
    broken = [f"{name} is {figures[name]}, not 0" for name in zero if figures[name]]
    broken += [
        f"{name} is {figures[name]}, not one per key"
        for name in ("requests", "idempotency_records", "first_events")
        if figures[name] != figures["keys"]
    ]
    return broken


def main() -> None:
    """Measure, print, and end with status 1 if anything is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="a thousand submissions a database")
    arguments = parser.parse_args()
    sizes = QUICK if arguments.quick else FULL
    with tempfile.TemporaryDirectory(prefix="expunge-idempotency-", ignore_cleanup_errors=True) as workspace:
        databases = {kind: measure(kind, sizes, Path(workspace) / kind) for kind in ("sqlite", "postgresql")}
    if arguments.json:
        print(json.dumps({"databases": databases, "environment": environment()}))
    else:
        for kind, figures in databases.items():
            print_table(figures, title=kind)
    broken = [f"{kind}: {what}" for kind, figures in databases.items() for what in violations(figures)]
    for what in broken:
        print(what, file=sys.stderr)
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
