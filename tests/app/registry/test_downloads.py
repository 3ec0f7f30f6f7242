"""Downloads, HTTP alone: SQLite is enough."""

import base64
import hashlib
import io
import json
import shutil
import tarfile

import pytest

from app.registry.downloads import content_disposition
from app.settings import Settings

FILE = "/v1/models/reader/versions/1/files/model.safetensors"
ARCHIVE = "/v1/models/reader/versions/1/archive"
MANIFEST = "/v1/models/reader/versions/1/manifest"


@pytest.fixture
def database_url(sqlite_template, tmp_path):
    shutil.copy(sqlite_template, tmp_path / "expunge.db")
    return f"sqlite:///{tmp_path}/expunge.db"


@pytest.fixture
def files(registry):
    registry.model("reader")
    return registry.checkpoint()


@pytest.fixture
def fetch(client, admin_headers, files):
    def get(path, method="GET", **headers):
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return client.request(method, path, headers=admin_headers | names)

    return get


def test_a_file_comes_whole_with_its_digests(fetch, files):
    content = files["model.safetensors"]
    sha256 = hashlib.sha256(content)
    answer = fetch(FILE)
    assert (answer.status_code, answer.content) == (200, content)
    expected = {
        "etag": f'"{sha256.hexdigest()}"',
        "repr-digest": f"sha-256=:{base64.b64encode(sha256.digest()).decode()}:",
        "content-length": str(len(content)),
        "content-type": "application/octet-stream",
        "accept-ranges": "bytes",
        "cache-control": "private, max-age=300, immutable",
        "content-disposition": "attachment; filename=\"model.safetensors\"; filename*=UTF-8''model.safetensors",
        "x-content-type-options": "nosniff",
    }
    assert {name: answer.headers[name] for name in expected} == expected
    assert "last-modified" in answer.headers


def test_head_says_what_get_would_without_the_bytes(fetch):
    for path in FILE, ARCHIVE, MANIFEST:
        named = {"X-Request-ID": "0123456789abcdef"}  # every answer has one of its own otherwise
        whole, head = fetch(path, **named), fetch(path, "HEAD", Range="bytes=0-3", **named)
        assert (head.status_code, head.content) == (200, b"")
        assert dict(head.headers) == dict(whole.headers)


def test_the_manifest_is_what_the_version_s_digest_names(fetch, files):
    answer = fetch(MANIFEST)
    version = fetch("/v1/models/reader/versions/1").json()
    assert hashlib.sha256(answer.content).hexdigest() == version["digest"]
    assert {file["path"]: file["sha256"] for file in answer.json()["files"]} == {
        name: hashlib.sha256(content).hexdigest() for name, content in files.items()
    }


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("0-3", 0, 4),
        ("5-5", 5, 6),
        ("10-", 10, None),
        ("-7", -7, None),
        ("3-999999", 3, None),
        ("-999999", 0, None),
    ],
)
def test_a_range_gives_just_these_bytes(fetch, files, asked, first, last):
    content = files["model.safetensors"]
    answer = fetch(FILE, Range=f"bytes={asked}")
    part = content[first:last]
    begin = content.index(part) if first == 0 else first % len(content)
    assert (answer.status_code, answer.content) == (206, part)
    assert answer.headers["content-range"] == f"bytes {begin}-{begin + len(part) - 1}/{len(content)}"
    assert answer.headers["content-length"] == str(len(part))
    assert answer.headers["etag"] == f'"{hashlib.sha256(content).hexdigest()}"'


@pytest.mark.parametrize(
    "asked", ["bytes=0-1,3-4", "bytes=", "bytes=4-2", "bytes=x-", "items=0-1", "bytes=-", "0-1"]
)
def test_what_is_not_a_single_range_is_answered_with_the_whole(fetch, files, asked):
    answer = fetch(FILE, Range=asked)
    assert (answer.status_code, answer.content) == (200, files["model.safetensors"])


@pytest.mark.parametrize("asked", ["bytes=999999-", "bytes=999999-9999999", "bytes=-0"])
def test_a_range_beyond_the_end_is_refused_with_the_size(fetch, files, asked):
    answer = fetch(FILE, Range=asked)
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{len(files['model.safetensors'])}"
    assert answer.json()["type"] == "urn:expunge:problem:range-not-satisfiable"


def test_a_client_that_has_the_bytes_is_told_so(fetch):
    tag, modified = (fetch(FILE).headers[name] for name in ("etag", "last-modified"))
    for headers in (
        {"If_None_Match": tag},
        {"If_None_Match": f'"other", W/{tag}'},
        {"If_None_Match": "*"},
        {"If_Modified_Since": modified},
    ):
        answer = fetch(FILE, **headers)
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
    for headers in (
        {"If_None_Match": '"other"', "If_Modified_Since": modified},
        {"If_Modified_Since": "Thu, 01 Jan 1970 00:00:00 GMT"},
        {"If_Modified_Since": "nonsense"},
    ):
        assert fetch(FILE, **headers).status_code == 200


def test_a_range_is_given_only_of_the_bytes_that_the_client_began_with(fetch):
    tag, modified = (fetch(FILE).headers[name] for name in ("etag", "last-modified"))
    for condition, status in (
        (tag, 206),
        (modified, 206),
        (f"W/{tag}", 200),
        ('"other"', 200),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 200),
        ("nonsense", 200),
    ):
        assert fetch(FILE, Range="bytes=0-3", If_Range=condition).status_code == status


def test_the_archive_unpacks_to_the_files_and_their_manifest(fetch, files):
    answer = fetch(ARCHIVE)
    assert answer.headers["content-type"] == "application/x-tar"
    assert int(answer.headers["content-length"]) == len(answer.content)
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        unpacked = {member.name: archive.extractfile(member).read() for member in archive}
    manifest = fetch(MANIFEST).content
    assert unpacked == {
        "reader-1/manifest.json": manifest,
        **{f"reader-1/{name}": content for name, content in files.items()},
    }


def test_an_archive_is_the_same_each_time_and_can_be_resumed_anywhere(fetch):
    whole = fetch(ARCHIVE)
    assert fetch(ARCHIVE).content == whole.content
    assert fetch(ARCHIVE, If_None_Match=whole.headers["etag"]).status_code == 304
    for first in 0, 100, 511, 512, 600, 1024, 2000, len(whole.content) - 1:
        rest = fetch(ARCHIVE, Range=f"bytes={first}-", If_Range=whole.headers["etag"])
        assert (rest.status_code, rest.content) == (206, whole.content[first:])
        piece = fetch(ARCHIVE, Range=f"bytes={first}-{first + 700}")
        assert piece.content == whole.content[first : first + 701]


def test_long_and_foreign_names_survive(registry, client, admin_headers):
    name = f'{"tief/" * 30}größe "1".json'
    dataset = registry.dataset("letters")["id"]
    body = {"name": "reader", "family": "classifier", "dataset": dataset}
    files = registry.checkpoint() | {name: b"{}"}
    registry.post("/v1/models", body, files).raise_for_status()
    answer = client.get(f"/v1/models/reader/versions/1/files/{name}", headers=admin_headers)
    assert (answer.status_code, answer.content) == (200, b"{}")
    assert "filename*=UTF-8''gr%C3%B6%C3%9Fe%20%221%22.json" in answer.headers["content-disposition"]
    archive = client.get(ARCHIVE, headers=admin_headers)
    with tarfile.open(fileobj=io.BytesIO(archive.content)) as opened:
        assert f"reader-1/{name}" in opened.getnames()


def test_a_file_name_cannot_break_out_of_its_header():
    header = content_disposition('a";\r\nX-Evil: 1')
    assert "\r" not in header
    assert "\n" not in header
    assert header.count('"') == 2


def test_an_empty_file_comes_as_nothing(registry, client, admin_headers, runtime):
    model = registry.model("reader")
    version = client.get("/v1/models/reader/versions/1", headers=admin_headers).json()
    assert version["model"] == model["name"]
    body = registry.post("/v1/models/reader/versions", {}, registry.checkpoint() | {"empty.json": b""})
    assert body.status_code == 201
    answer = client.get("/v1/models/reader/versions/2/files/empty.json", headers=admin_headers)
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "0")
    ranged = client.get(
        "/v1/models/reader/versions/2/files/empty.json", headers=admin_headers | {"Range": "bytes=0-"}
    )
    assert ranged.status_code == 416


class TestRemoteStorage:
    """The same over an object store: nothing is copied to this machine first."""

    @pytest.fixture
    def settings(self, database_url, tmp_path):
        return Settings(
            _env_file=None,
            database_url=database_url,
            storage_url=f"memory://{tmp_path.name}",
            cache_dir=tmp_path / "cache",
        )

    def test_files_and_archives_stream_from_it(self, fetch, files, settings):
        assert fetch(FILE).content == files["model.safetensors"]
        assert fetch(FILE, Range="bytes=7-19").content == files["model.safetensors"][7:20]
        with tarfile.open(fileobj=io.BytesIO(fetch(ARCHIVE).content)) as archive:
            content = archive.extractfile("reader-1/config.json").read()
        assert json.loads(content) == json.loads(files["config.json"])
        assert not (settings.cache_dir / "objects" / "models").exists()
