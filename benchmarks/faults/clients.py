"""The service's clients during a campaign: they submit, cancel, decide and download, whatever happens behind it."""

import hashlib
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import httpx

from benchmarks.faults.house import House

OPEN_REQUESTS = 6
"""Requests that are kept waiting or running: enough for every worker, without work for its own sake."""

CANCELLED_ONE_IN = 15
REPEATED_ONE_IN = 10
SERVER_ERROR = 500


@dataclass
class Acknowledged:
    """A request that was answered with 202: from then on it must not get lost."""

    id: str
    model: str
    record: str
    cancel_asked: bool = False


@dataclass
class Ledger:
    """What the clients were told, and what they saw."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    requests: dict[str, Acknowledged] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    """What should never have been answered."""
    half_written: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    unread: set[str] = field(default_factory=set)
    """Models whose stored files a scenario damages on purpose, so that no reader may look at them."""
    resting: set[str] = field(default_factory=set)
    """Models that a scenario has for itself: nobody submits for them."""

    def count(self, what: str) -> None:
        """Add one to a counter."""
        with self.lock:
            self.counts[what] += 1

    def blame(self, what: str) -> None:
        """Note an answer that is wrong whatever the faults."""
        with self.lock:
            self.faults.append(what)


class Clients:
    """Submitters, readers and a person, each in a thread, for the length of a `with` block."""

    def __init__(self, house: House, ledger: Ledger, *, seed: int, readers: int = 1) -> None:
        self._house = house
        self._ledger = ledger
        self._stop = threading.Event()
        self._seed = seed
        self._quiet = threading.Event()
        loops: list[Callable[[httpx.Client, random.Random], None]] = [
            self._submit,
            self._decide,
            *[self._read] * readers,
        ]
        self._threads = [
            threading.Thread(target=self._run, args=(loop, seed + number), name=loop.__name__)
            for number, loop in enumerate(loops)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def hush(self) -> None:
        """Let nobody submit any more."""
        self._quiet.set()

    def _run(self, loop: Callable[[httpx.Client, random.Random], None], seed: int) -> None:
        dice = random.Random(seed)  # noqa: S311 - it chooses models, no secrets
        with self._house.client() as client:
            while not self._stop.is_set():
                try:
                    loop(client, dice)
                except httpx.TransportError:
                    self._ledger.count("transport_errors")
                    self._stop.wait(0.1)
                except Exception as error:  # noqa: BLE001 - a client that ends early would make the verdict hollow
                    self._ledger.blame(f"{loop.__name__}: {type(error).__name__}: {error}")
                    self._stop.wait(1.0)

    def _submit(self, client: httpx.Client, dice: random.Random) -> None:
        self._stop.wait(0.1)
        if self._quiet.is_set():
            return
        waiting = self._open(client)
        if waiting is None:
            return
        for model in dice.sample(self._house.models, len(self._house.models)):
            pool = self._house.pools[model]
            if model in self._ledger.resting or not pool:
                continue
            if self._stop.is_set() or waiting.total() >= OPEN_REQUESTS:
                return
            if waiting[model] and dice.randrange(5):
                continue  # most requests are for a model that none waits for, some join others
            waiting[model] += 1
            self._forget(client, dice, model, pool.pop())

    def _open(self, client: httpx.Client) -> Counter[str] | None:
        query = httpx.QueryParams({"status": ["pending", "running"], "limit": 500})
        response = client.get("/v1/forget-requests", params=query)
        if not self._answered(response):
            return None
        return Counter(item["model"] for item in response.json()["items"])

    def _forget(self, client: httpx.Client, dice: random.Random, model: str, record: str) -> None:
        """Submit until there is an answer, always under the same key."""
        request = submit(client, self._ledger, model, record, self._stop)
        if request is not None and dice.randrange(CANCELLED_ONE_IN) == 0:
            request.cancel_asked = True
            response = client.post(f"/v1/forget-requests/{request.id}/cancel")
            self._answered(response, allowed=(200, 202, 409))

    def _decide(self, client: httpx.Client, dice: random.Random) -> None:
        """Be the person who accepts candidates or has them tried again, and who asks for updates."""
        self._stop.wait(0.2)
        query = httpx.QueryParams({"status": "needs_review", "limit": 100})
        response = client.get("/v1/forget-requests", params=query)
        if not self._answered(response):
            return
        for item in response.json()["items"]:
            accepts = dice.random() < 0.5
            where = f"/v1/forget-requests/{item['id']}/{'review' if accepts else 'retry'}"
            body = {"decision": "accept", "reason": "It is good enough."} if accepts else {}
            answer = client.post(where, json=body)
            if self._answered(answer, allowed=(200, 202, 409)) and answer.status_code == httpx.codes.CONFLICT:
                self._answered(
                    client.post(f"/v1/forget-requests/{item['id']}/retry", json={}), allowed=(202, 409)
                )
        if dice.randrange(10) == 0 and not self._quiet.is_set():
            model = dice.choice([name for name in self._house.models if name not in self._ledger.resting])
            self._answered(client.post(f"/v1/models/{model}/updates"), allowed=(202, 409))

    def _read(self, client: httpx.Client, dice: random.Random) -> None:
        self._stop.wait(0.1)
        readable = [name for name in self._house.models if name not in self._ledger.unread]
        read_latest(client, self._ledger, dice.choice(readable))

    def _answered(self, response: httpx.Response, allowed: Sequence[int] = (200,)) -> bool:
        return judge_answer(self._ledger, response, allowed)


def judge_answer(ledger: Ledger, response: httpx.Response, allowed: Sequence[int]) -> bool:
    """Tell whether an answer is one; "try again later" is none, and everything else is to blame."""
    if response.status_code in allowed:
        return True
    if response.status_code == httpx.codes.SERVICE_UNAVAILABLE and "Retry-After" in response.headers:
        ledger.count("answers_503")
        time.sleep(0.1)
        return False
    what = (
        f"{response.request.method} {response.request.url.path}: {response.status_code} {response.text[:300]}"
    )
    ledger.blame(what)
    time.sleep(0.1)
    return False


def submit(
    client: httpx.Client, ledger: Ledger, model: str, record: str, stop: threading.Event
) -> Acknowledged | None:
    """Submit under one idempotency key until there is an answer; None where there was none before `stop`."""
    key = uuid.uuid4().hex
    body: dict[str, Any] = {"model": model, "target": {"kind": "records", "ids": [record]}}
    while not stop.is_set():
        try:
            response = client.post("/v1/forget-requests", json=body, headers={"Idempotency-Key": key})
        except httpx.TransportError:
            ledger.count("transport_errors")
            stop.wait(0.1)
            continue
        if judge_answer(ledger, response, (202,)):
            request = Acknowledged(response.json()["id"], model, record)
            with ledger.lock:
                ledger.requests[request.id] = request
            return request
        if response.status_code < SERVER_ERROR:
            return None
    return None


def read_latest(client: httpx.Client, ledger: Ledger, model: str) -> None:
    """Download the whole latest version and compare every byte with what the service says of it."""
    response = client.get(f"/v1/models/{model}/versions/latest")
    if response.is_redirect:
        response = client.get(response.headers["Location"])
    if not judge_answer(ledger, response, (200,)):
        return
    version = response.json()
    where = f"/v1/models/{model}/versions/{version['number']}"
    manifest = client.get(f"{where}/manifest")
    if _withdrawn(ledger, manifest):
        return
    if hashlib.sha256(manifest.content).hexdigest() != version["digest"]:
        _torn(ledger, where, "its manifest is not the one that was published")
        return
    for entry in manifest.json()["files"]:
        try:
            file = client.get(f"{where}/files/{entry['path']}")
        except httpx.RemoteProtocolError:
            _torn(ledger, where, f"{entry['path']} ended too early")
            return
        if _withdrawn(ledger, file):
            return
        if hashlib.sha256(file.content).hexdigest() != entry["sha256"]:
            _torn(ledger, where, f"{entry['path']} is not what its manifest says")
            return
    ledger.count("versions_read")


def _withdrawn(ledger: Ledger, response: httpx.Response) -> bool:
    """Tell whether a version cannot be read (any more): that is fine if it is quarantined by now."""
    if response.status_code == httpx.codes.OK:
        return False
    if response.status_code == httpx.codes.FORBIDDEN:
        ledger.count("versions_withdrawn_meanwhile")
    elif response.status_code in {httpx.codes.NOT_FOUND, SERVER_ERROR}:
        _torn(ledger, response.request.url.path, f"answered {response.status_code}: {response.text[:200]}")
    else:
        judge_answer(ledger, response, (200,))
    return True


def _torn(ledger: Ledger, where: str, what: str) -> None:
    with ledger.lock:
        ledger.half_written.append(f"{where}: {what}")
