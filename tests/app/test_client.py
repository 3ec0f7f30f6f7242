"""The client against a scripted service: what it repeats, resumes, verifies and refuses."""

import hashlib
import json
from pathlib import Path

import httpx
import pytest

from app.client import Client, ClientError, DownloadError, ProblemError, UnreachableError
from models.checkpoint import MANIFEST_NAME, FileEntry, Manifest, verify_directory
from models.errors import CheckpointError

FILES = {"config.json": b'{"family": "classifier"}', "weights/model.safetensors": bytes(range(256)) * 4096}
MANIFEST = Manifest(
    tuple(FileEntry(path, hashlib.sha256(data).hexdigest(), len(data)) for path, data in FILES.items())
)


def scripted(handler) -> Client:
    client = Client("http://service", "xp_key")
    client.api._http.close()
    client.api._http = httpx.Client(
        base_url="http://service", transport=httpx.MockTransport(handler), headers=client.api._http.headers
    )
    return client


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nothing waits; what would have been waited for is written down."""
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    return waited


class Shop:
    """Serves one version; faults can be put in."""

    def __init__(self, files=None, digest=None, state=200):
        self.files = files or FILES
        self.digest = digest or MANIFEST.digest
        self.state = state
        self.ranges = []
        self.break_after = None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path.endswith("/manifest"):
            if self.state != 200:
                problem = {"type": "urn:expunge:problem:version-quarantined", "detail": "No."}
                return httpx.Response(self.state, json=problem)
            return httpx.Response(200, json=MANIFEST.to_json())
        if "/files/" not in path:
            return httpx.Response(200, json={"number": 2, "digest": self.digest})
        name = path.partition("/files/")[2]
        data = self.files[name]
        wanted = request.headers.get("range")
        self.ranges.append((name, wanted, request.headers.get("if-range")))
        if wanted is not None:
            return httpx.Response(206, content=data[int(wanted.removeprefix("bytes=").removesuffix("-")) :])
        if self.break_after is not None:
            cut, self.break_after = data[: self.break_after], None
            return httpx.Response(200, stream=BrokenStream(cut))
        return httpx.Response(200, content=data)


class BrokenStream(httpx.SyncByteStream):
    def __init__(self, data: bytes):
        self.data = data

    def __iter__(self):
        yield self.data
        raise httpx.ReadError("connection reset")


def test_a_download_is_whole_and_verified(tmp_path: Path):
    version = scripted(Shop()).download("digits", tmp_path / "v2")
    assert version["number"] == 2
    assert verify_directory(tmp_path / "v2").digest == MANIFEST.digest
    assert list(tmp_path.iterdir()) == [tmp_path / "v2"]


def test_a_download_that_broke_off_goes_on_where_it_stopped(tmp_path: Path):
    shop = Shop()
    shop.break_after = 10
    scripted(shop).download("digits", tmp_path / "v2")
    entry = MANIFEST.entry("config.json")
    assert shop.ranges[:2] == [
        ("config.json", None, None),
        ("config.json", "bytes=10-", f'"{entry.sha256}"'),
    ]
    assert verify_directory(tmp_path / "v2").digest == MANIFEST.digest


def test_a_download_resumes_in_another_process(tmp_path: Path):
    partial = tmp_path / f".v2.{MANIFEST.digest[:16]}.partial"
    (partial / "weights").mkdir(parents=True)
    (partial / "weights" / "model.safetensors").write_bytes(FILES["weights/model.safetensors"][:1000])
    (partial / "config.json").write_bytes(FILES["config.json"])
    shop = Shop()
    scripted(shop).download("digits", tmp_path / "v2")
    assert [(name, wanted) for name, wanted, _ in shop.ranges] == [
        ("weights/model.safetensors", "bytes=1000-")
    ]
    assert not partial.exists()


def test_a_range_that_is_answered_with_the_whole_starts_anew(tmp_path: Path):
    partial = tmp_path / f".v2.{MANIFEST.digest[:16]}.partial"
    partial.mkdir()
    (partial / "config.json").write_bytes(b"other")

    def ignores_ranges(request):
        request.headers.pop("range", None)
        return Shop()(request)

    scripted(ignores_ranges).download("digits", tmp_path / "v2")
    assert (tmp_path / "v2" / "config.json").read_bytes() == FILES["config.json"]


def test_a_damaged_file_is_refused_and_nothing_appears(tmp_path: Path):
    damaged = {**FILES, "config.json": FILES["config.json"][:-1] + b"?"}
    with pytest.raises(DownloadError, match=r"config\.json arrived damaged"):
        scripted(Shop(files=damaged)).download("digits", tmp_path / "v2")
    assert not (tmp_path / "v2").exists()


def test_a_short_file_is_refused(tmp_path: Path):
    with pytest.raises(DownloadError, match="arrived damaged"):
        scripted(Shop(files={**FILES, "config.json": b""})).download("digits", tmp_path / "v2")


def test_a_manifest_other_than_the_versions_is_refused(tmp_path: Path):
    with pytest.raises(DownloadError, match="manifest"):
        scripted(Shop(digest="0" * 64)).download("digits", tmp_path / "v2")


def test_a_manifest_that_leaves_the_directory_is_refused(tmp_path: Path):
    evil = Manifest((FileEntry("../evil", "0" * 64, 1),))

    def handler(request):
        if request.url.path.endswith("/manifest"):
            return httpx.Response(200, json=evil.to_json())
        return httpx.Response(200, json={"number": 2, "digest": evil.digest})

    with pytest.raises(CheckpointError):
        scripted(handler).download("digits", tmp_path / "v2")
    assert not (tmp_path / "evil").exists()


def test_a_version_that_is_there_already_is_accepted(tmp_path: Path):
    shop = Shop()
    scripted(shop).download("digits", tmp_path / "v2")
    scripted(shop).download("digits", tmp_path / "v2")
    assert len(shop.ranges) == len(FILES)


def test_a_directory_with_something_else_is_left_alone(tmp_path: Path):
    (tmp_path / "v2").mkdir()
    (tmp_path / "v2" / MANIFEST_NAME).write_text("mine")
    with pytest.raises(DownloadError, match="something else"):
        scripted(Shop()).download("digits", tmp_path / "v2")
    assert (tmp_path / "v2" / MANIFEST_NAME).read_text() == "mine"


def test_a_refused_download_is_the_services_problem(tmp_path: Path):
    with pytest.raises(ProblemError) as refused:
        scripted(Shop(state=403)).download("digits", tmp_path / "v2")
    assert (refused.value.status, refused.value.slug) == (403, "version-quarantined")


def test_a_busy_service_is_asked_again_after_the_pause_it_names(pauses):
    answers = iter(
        [httpx.Response(429, headers={"Retry-After": "3"}), httpx.Response(200, json={"items": []})]
    )
    assert scripted(lambda _request: next(answers)).methods() == []
    assert pauses == [3.0]


def test_a_pause_that_is_too_long_is_the_callers_decision(pauses):
    client = scripted(lambda _request: httpx.Response(429, headers={"Retry-After": "3600"}))
    with pytest.raises(ProblemError):
        client.methods()
    assert pauses == []


def test_a_lost_answer_is_asked_for_under_the_same_idempotency_key():
    keys = []

    def handler(request):
        keys.append(request.headers["idempotency-key"])
        if len(keys) == 1:
            raise httpx.ReadError("connection reset")
        return httpx.Response(202, json={"id": "1"})

    assert scripted(handler).forget("digits", {"kind": "records", "ids": ["a"]}) == {"id": "1"}
    assert len(keys) == 2
    assert len(set(keys)) == 1


def test_a_refused_connection_is_not_tried_again(pauses):
    def handler(_request):
        raise httpx.ConnectError("refused")

    with pytest.raises(UnreachableError, match="http://service"):
        scripted(handler).methods()
    assert pauses == []


def test_an_answer_from_something_else_is_told_from_the_services():
    with pytest.raises(ClientError, match="is the URL right"):
        scripted(lambda _request: httpx.Response(200, text="<html>hello</html>")).methods()


def test_a_refusal_without_a_problem_document_still_has_its_status():
    with pytest.raises(ProblemError, match="502") as refused:
        scripted(lambda _request: httpx.Response(502, text="Bad gateway")).methods()
    assert refused.value.slug == ""


def test_a_strange_name_stays_one_segment_of_the_path():
    paths = []

    def handler(request):
        paths.append(request.url.raw_path)
        return httpx.Response(200, json={})

    scripted(handler).model("a/../b?c")
    assert paths == [b"/v1/models/a%2F..%2Fb%3Fc"]


def test_every_page_is_fetched():
    def handler(request):
        cursor = request.url.params.get("cursor")
        following = "/v1/models?cursor=2" if cursor is None else None
        return httpx.Response(200, json={"items": [cursor], "next": following})

    assert scripted(handler).models() == [None, "2"]


def event(number, status=None):
    body = {"id": number, "type": "status", "status": status, "reason": "so", "details": None}
    return {**body, "job": None, "created_at": "2026-01-01T00:00:00Z"}


def as_stream(*events):
    text = "".join(f"id: {one['id']}\nevent: status\ndata: {json.dumps(one)}\n\n" for one in events)
    return httpx.Response(200, text=text, headers={"Content-Type": "text/event-stream"})


class History:
    """A request with four events whose stream breaks off after two."""

    def __init__(self, *, streams=True):
        self.streams = streams
        self.events = [event(1, "pending"), event(2, "running"), event(3), event(4, "completed")]
        self.asked = []

    def __call__(self, request):
        if not request.url.path.endswith("/events"):
            seen = self.asked and self.asked[-1][1] >= 2
            return httpx.Response(200, json={"status": "completed" if seen else "running"})
        if "text/event-stream" in request.headers["accept"]:
            if not self.streams:
                return httpx.Response(200, text="no", headers={"Content-Type": "text/plain"})
            after = int(request.headers.get("last-event-id", 0))
            self.asked.append(("stream", after))
            return as_stream(*(self.events[:2] if after == 0 else self.events[after:]))
        after = int(request.url.params["after"])
        self.asked.append(("list", after))
        return httpx.Response(200, json={"items": self.events[after : after + 2], "next": None})


def test_a_stream_that_breaks_off_is_taken_up_after_the_last_event():
    history = History()
    assert [one.id for one in scripted(history).events("r")] == [1, 2, 3, 4]
    assert ("stream", 2) in history.asked


def test_without_streams_the_list_is_polled():
    history = History(streams=False)
    assert [one.id for one in scripted(history).events("r")] == [1, 2, 3, 4]
    assert all(kind == "list" for kind, _ in history.asked)


def test_waiting_returns_the_settled_request():
    seen = []
    request = scripted(History()).wait("r", on_event=seen.append)
    assert request["status"] == "completed"
    assert [one.status for one in seen] == ["pending", "running", None, "completed"]


def test_an_upload_streams_its_files_and_reports_progress(tmp_path: Path):
    file = tmp_path / "data.npz"
    file.write_bytes(b"x" * 300_000)
    bodies, reports = [], []

    def handler(request):
        bodies.append(request.read())
        return httpx.Response(201, json={"id": "1"})

    scripted(handler).register_dataset(
        "digits", "classifier", [file], progress=lambda *report: reports.append(report)
    )
    assert b'filename="data.npz"' in bodies[0]
    assert b'{"name": "digits", "family": "classifier"}' in bodies[0]
    assert reports[-1] == ("uploading", 300_000, 300_000)
    assert len(reports) > 2


def test_a_checkpoint_keeps_its_relative_paths(tmp_path: Path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.json").write_text("{}")
    bodies = []

    def handler(request):
        bodies.append(request.read())
        return httpx.Response(201, json={"id": "1"})

    scripted(handler).register_model("digits", "classifier", "d", tmp_path)
    assert b'filename="sub/a.json"' in bodies[0]


def test_files_of_one_name_are_not_silently_one(tmp_path: Path):
    with pytest.raises(ClientError, match="same name"):
        scripted(Shop()).register_dataset(
            "d", "classifier", [tmp_path / "a" / "x.csv", tmp_path / "b" / "x.csv"]
        )


def test_either_files_or_a_uri():
    with pytest.raises(ClientError, match="either"):
        scripted(Shop()).register_dataset("d", "classifier")


def test_an_empty_checkpoint_directory_is_refused(tmp_path: Path):
    with pytest.raises(ClientError, match="no checkpoint"):
        scripted(Shop()).register_model("m", "classifier", "d", tmp_path)


@pytest.mark.parametrize(
    ("call", "path", "body"),
    [
        (lambda client: client.cancel("r"), "/v1/forget-requests/r/cancel", None),
        (lambda client: client.retry("r", method="acu"), "/v1/forget-requests/r/retry", {"method": "acu"}),
        (
            lambda client: client.accept("r", "seen"),
            "/v1/forget-requests/r/review",
            {"decision": "accept", "reason": "seen"},
        ),
        (lambda client: client.update("digits"), "/v1/models/digits/updates", {}),
    ],
)
def test_what_a_person_decides_goes_to_its_endpoint(call, path, body):
    def handler(request):
        assert request.url.path == path
        assert json.loads(request.content or "null") == body
        return httpx.Response(200, json={"id": "r"})

    assert call(scripted(handler)) == {"id": "r"}
