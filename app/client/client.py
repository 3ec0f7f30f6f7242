"""A client of the service for Python programs; the command line is built on it.

    with Client("http://127.0.0.1:8000", "xp_…") as client:
        request = client.forget("digits", {"kind": "records", "ids": ["17", "23"]}, guarantee="exact")
        request = client.wait(request["id"])
        client.download("digits", Path("digits-forgotten"), version=request["version"])

Answers are the JSON objects that the API's OpenAPI document describes. Torch-free.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from app.client.download import download_version
from app.client.errors import ClientError
from app.client.events import POLL_SECONDS, Event, follow
from app.client.parts import checkpoint_parts, data_parts
from app.client.paths import policy_path, request_path, segment, version_path
from app.client.transport import JsonObject, Progress, Transport
from models.checkpoint import Manifest

UNFINISHED = frozenset({"queued", "running", "cancelling"})
"""States of an audit that has not ended."""


class Client:
    """Calls one service under one API key. Safe to share between threads.

    Every POST carries an `Idempotency-Key`, so one whose answer was lost can be repeated without harm; calls
    that the service is too busy for are repeated after the pause it asks for.

    Args:
        url: Where the service is, such as `http://127.0.0.1:8000`.
        api_key: The key's secret.
        timeout: Seconds to wait for the service to begin to answer.
    """

    def __init__(self, url: str, api_key: str, *, timeout: float = 60.0) -> None:
        self.api = Transport(url, api_key, timeout=timeout)
        """For calls of the API that have no method here: `client.api.get("/v1/…")`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self.api.close()

    def methods(self, family: str | None = None) -> list[JsonObject]:
        """Return the installed methods, or one family's."""
        parameters = {"family": family} if family is not None else {}
        return list(self.api.get("/v1/methods", **parameters)["items"])

    def plan(
        self,
        model: str,
        target: Mapping[str, Any],
        *,
        guarantee: str = "any",
        method: str = "auto",
        parameters: Mapping[str, Any] | None = None,
    ) -> JsonObject:
        """Ask which methods a forget request would try, without making one."""
        body = {"model": model, "target": target, "guarantee": guarantee, "method": method}
        return self.api.post("/v1/plans", {**body, "parameters": dict(parameters or {})})

    def register_dataset(
        self,
        name: str,
        family: str,
        files: Sequence[Path] = (),
        *,
        uri: str | None = None,
        progress: Progress | None = None,
    ) -> JsonObject:
        """Upload data files as a new dataset, or have the service import them from `uri`."""
        metadata = {"name": name, "family": family}
        return self.api.deliver("/v1/datasets", metadata, data_parts(files), uri, progress)

    def add_snapshot(
        self,
        dataset: str,
        files: Sequence[Path] = (),
        *,
        mode: str = "append",
        uri: str | None = None,
        progress: Progress | None = None,
    ) -> JsonObject:
        """Upload or import a dataset's next snapshot: records added (`append`) or all of them (`replace`)."""
        path = f"/v1/datasets/{segment(dataset)}/snapshots"
        return self.api.deliver(path, {"mode": mode}, data_parts(files), uri, progress)

    def register_model(
        self,
        name: str,
        family: str,
        dataset: str,
        checkpoint: Path | None = None,
        *,
        uri: str | None = None,
        progress: Progress | None = None,
    ) -> JsonObject:
        """Upload or import a checkpoint directory as version 1 of a new model over a dataset, given by its id."""
        metadata = {"name": name, "family": family, "dataset": dataset}
        parts = checkpoint_parts(checkpoint) if checkpoint is not None else {}
        return self.api.deliver("/v1/models", metadata, parts, uri, progress)

    def add_version(
        self,
        model: str,
        checkpoint: Path | None = None,
        *,
        uri: str | None = None,
        progress: Progress | None = None,
    ) -> JsonObject:
        """Upload or import a checkpoint that was trained elsewhere as the model's next version."""
        parts = checkpoint_parts(checkpoint) if checkpoint is not None else {}
        return self.api.deliver(f"/v1/models/{segment(model)}/versions", {}, parts, uri, progress)

    def datasets(self) -> list[JsonObject]:
        """Return every dataset."""
        return self.api.get_all("/v1/datasets")

    def models(self) -> list[JsonObject]:
        """Return every model that the key may see."""
        return self.api.get_all("/v1/models")

    def model(self, name: str) -> JsonObject:
        """Return one model."""
        return self.api.get(f"/v1/models/{segment(name)}")

    def versions(self, model: str) -> list[JsonObject]:
        """Return every version of a model, newest first."""
        return self.api.get_all(f"/v1/models/{segment(model)}/versions")

    def version(self, model: str, version: int | str = "latest") -> JsonObject:
        """Return one version of a model."""
        return self.api.get(version_path(model, version))

    def destroy(self, model: str, version: int, reason: str) -> JsonObject:
        """Destroy a quarantined version's files now, for a reason that is kept for good."""
        return self.api.post(f"{version_path(model, version)}/destroy", {"reason": reason})

    def audit(self, model: str, version: int | str) -> JsonObject:
        """Return the audit of an unlearned version."""
        return self.api.get(f"{version_path(model, version)}/audit")

    def start_audit(
        self,
        model: str,
        original: int,
        target: Mapping[str, Any],
        *,
        candidate: int | None = None,
        checkpoint: Path | None = None,
        uri: str | None = None,
        reference: str | None = None,
        progress: Progress | None = None,
    ) -> JsonObject:
        """Have a version (`candidate`), or a checkpoint that is uploaded or imported, judged for what it forgot.

        The answer is the stored audit; `wait_for_audit` returns it with its verdict.
        """
        named = {"model": model, "original": original, "target": dict(target), "reference": reference}
        metadata = {name: value for name, value in named.items() if value is not None}
        if candidate is not None:
            if checkpoint is not None or uri is not None:
                raise ClientError("Give either a version or a checkpoint to judge.")
            return self.api.post("/v1/audits", {**metadata, "candidate": candidate})
        parts = checkpoint_parts(checkpoint) if checkpoint is not None else {}
        return self.api.deliver("/v1/audits", metadata, parts, uri, progress)

    def audit_run(self, audit_id: str) -> JsonObject:
        """Return an audit that was asked for, as it stands."""
        return self.api.get(f"/v1/audits/{segment(str(audit_id))}")

    def audit_runs(self, **filters: str | int | bool) -> list[JsonObject]:
        """Return every audit that was asked for and fits the filters of the API's list, newest first."""
        return self.api.get_all("/v1/audits", **filters)

    def wait_for_audit(
        self, audit_id: str, *, on_change: Callable[[JsonObject], None] | None = None
    ) -> JsonObject:
        """Look at an audit until it has ended and return it."""
        while True:
            audit = self.audit_run(audit_id)
            if on_change is not None:
                on_change(audit)
            if audit["status"] not in UNFINISHED:
                return audit
            time.sleep(POLL_SECONDS)

    def policy(self, model: str) -> JsonObject:
        """Return the audit policy in effect for a model, and where each field of it comes from."""
        return self.api.get(f"/v1/models/{segment(model)}/policy")

    def policy_fields(self, *, model: str | None = None, family: str | None = None) -> JsonObject:
        """Return what is set for one model or one family."""
        return self.api.get(policy_path(model, family))

    def set_policy(
        self, fields: Mapping[str, Any], *, model: str | None = None, family: str | None = None
    ) -> JsonObject:
        """Set the fields of a model's or a family's policy, all of them anew; an empty mapping removes it."""
        path = policy_path(model, family)
        return self.api.put(path, dict(fields)) if fields else self.api.delete(path)

    def train_references(self, model: str, target: Mapping[str, Any] | None = None) -> JsonObject:
        """Ask for references of audits to be trained when nothing else waits; the answer is a job."""
        return self.api.post(f"/v1/models/{segment(model)}/references", {"target": target})

    def audit_report(self, model: str, version: int | str) -> str:
        """Return the audit of a version as a page for people: one HTML file that asks for nothing from elsewhere."""
        path = f"{version_path(model, version)}/audit"
        return self.api.content(path, accept="text/html").decode()

    def update(self, model: str) -> JsonObject:
        """Ask for a new version that has learned its dataset's newest snapshot; the answer is a job."""
        return self.api.post(f"/v1/models/{segment(model)}/updates", {})

    def forget(
        self,
        model: str,
        target: Mapping[str, Any],
        *,
        guarantee: str = "any",
        method: str = "auto",
        parameters: Mapping[str, Any] | None = None,
        reference: str | None = None,
        due_at: str | None = None,
        dataset: str | None = None,
        callback_url: str | None = None,
        idempotency_key: str | None = None,
    ) -> JsonObject:
        """Demand that a target be forgotten; the answer is the stored request, or a list of them for `*`."""
        body = {
            "model": model,
            "target": target,
            "guarantee": guarantee,
            "method": method,
            "parameters": dict(parameters or {}),
            "reference": reference,
            "due_at": due_at,
            "dataset": dataset,
            "callback_url": callback_url,
        }
        given = {name: value for name, value in body.items() if value is not None}
        return self.api.post("/v1/forget-requests", given, idempotency_key=idempotency_key)

    def forget_request(self, request_id: str) -> JsonObject:
        """Return a request as it stands."""
        return self.api.get(request_path(request_id))

    def forget_requests(self, **filters: str | int | bool) -> list[JsonObject]:
        """Return every request that fits the filters of the API's list, newest first."""
        return self.api.get_all("/v1/forget-requests", **filters)

    def cancel(self, request_id: str) -> JsonObject:
        """Withdraw a request."""
        return self.api.post(f"{request_path(request_id)}/cancel", None)

    def retry(self, request_id: str, **changes: Any) -> JsonObject:
        """Put a request that failed or needs review back into the queue; see the API for what may change."""
        return self.api.post(f"{request_path(request_id)}/retry", changes)

    def accept(self, request_id: str, reason: str) -> JsonObject:
        """Have the candidate of a request that needs review published, for a reason that is kept for good."""
        body = {"decision": "accept", "reason": reason}
        return self.api.post(f"{request_path(request_id)}/review", body)

    def extend(self, request_id: str, reason: str) -> JsonObject:
        """Put an open request's due date off by two months, once, for a reason that is kept."""
        return self.api.post(f"{request_path(request_id)}/extend", {"reason": reason})

    def refuse(self, request_id: str, ground: str, reason: str) -> JsonObject:
        """Refuse a request that waits for a worker or a person; see the API for the grounds."""
        return self.api.post(f"{request_path(request_id)}/refuse", {"ground": ground, "reason": reason})

    def events(self, request_id: str, *, after: int = 0) -> Iterator[Event]:
        """Yield a request's events, past ones first, as they happen, until the request is settled.

        They come as a server-sent event stream that is taken up again where it broke off; where something on
        the way lets no stream through, the list of events is asked for every second instead.
        """
        return follow(self.api, request_id, after)

    def wait(self, request_id: str, *, on_event: Callable[[Event], None] | None = None) -> JsonObject:
        """Follow a request until it is settled and return it."""
        for event in self.events(request_id):
            if on_event is not None:
                on_event(event)
        return self.forget_request(request_id)

    def certificate(self, request_id: str) -> bytes:
        """Return the certificate of a completed request; keep it byte for byte, `expunge verify` verifies it."""
        return self.api.content(f"{request_path(request_id)}/certificate")

    def log_checkpoint(self) -> str:
        """Return the transparency log's signed tree head, a note in C2SP's `tlog-checkpoint` form."""
        return self.api.content("/v1/log/checkpoint").decode()

    def log_entries(self, start: int, end: int) -> list[JsonObject]:
        """Return the log's entries from `start` up to `end`, the last one excluded."""
        found: list[JsonObject] = []
        while start + len(found) < end:
            found += self.api.get("/v1/log/entries", start=start + len(found), end=end)["items"]
        return found

    def log_consistency(self, first: int, second: int) -> JsonObject:
        """Return the proof that the log of `second` entries begins with that of `first`."""
        return self.api.get("/v1/log/proofs/consistency", first=first, second=second)

    def log_inclusion(self, index: int, size: int) -> JsonObject:
        """Return the proof that the log of `size` entries has entry `index`."""
        return self.api.get("/v1/log/proofs/inclusion", index=index, size=size)

    def public_keys(self) -> JsonObject:
        """Return the service's public keys; compare them with what you know of them by another way."""
        return self.api.get("/v1/log/key")

    def model_signature(self, model: str, version: int | str) -> str:
        """Return a version's `model.sig`, a signature in the OpenSSF model-signing format."""
        return self.api.content(f"{version_path(model, version)}/model.sig").decode()

    def manifest(self, model: str, version: int | str = "latest") -> Manifest:
        """Return every file of a version with its digest and size."""
        return Manifest.from_json(self.api.get(f"{version_path(model, version)}/manifest"))

    def download(
        self,
        model: str,
        directory: Path,
        *,
        version: int | str = "latest",
        progress: Progress | None = None,
    ) -> JsonObject:
        """Download a version into `directory`, which appears whole and verified or not at all.

        A download that broke off goes on where it stopped when it is called again.

        Returns:
            The version.

        Raises:
            DownloadError: A digest is wrong, or `directory` holds something else already.
            ProblemError: The service refuses, for instance because the version is quarantined.
        """
        return download_version(self.api, model, version, directory, progress)
