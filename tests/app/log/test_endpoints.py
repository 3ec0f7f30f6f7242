"""`/v1/log` over HTTP: what a registered model leaves in it, and refusals."""

import base64

import pytest

from app.trust.canonical import parse_canonical
from app.trust.log.merkle import leaf_hash, verify_consistency, verify_inclusion
from app.trust.log.notes import TreeHead, VerifierKey, verify_note
from app.trust.scopes import Scope
from app.trust.signing import read_public_keys


@pytest.fixture
def get(client, admin_headers):
    def get(path, headers=admin_headers, **parameters):
        return client.get(f"/v1/log/{path}", params=parameters, headers=headers)

    return get


def tree_head(get):
    response = get("checkpoint")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    key = VerifierKey.parse(get("key").json()["vkey"])
    return TreeHead.parse(verify_note(response.content, [key], alone=True))


def decoded(answer):
    return [base64.b64decode(value) for value in answer["hashes"]]


def test_registered_versions_are_published_in_the_log_and_proved(get, registry):
    empty = tree_head(get)
    model = registry.model("reader")
    first = tree_head(get)
    for name in ("writer", "critic"):
        registry.model(name)
    second = tree_head(get)
    assert (empty.size, first.size, second.size) == (0, 1, 3)

    items = get("entries", start=0, end=3).json()["items"]
    leaf = parse_canonical(items[0]["leaf"].encode())
    assert (leaf["kind"], leaf["index"]) == ("version", 0)
    assert leaf["body"]["state"] == "published"
    assert "reader" not in items[0]["leaf"]  # models are named by their ids
    assert model["name"] == "reader"
    for item in items:
        proof = get("proofs/inclusion", index=item["index"], size=3).json()
        hashed = leaf_hash(item["leaf"].encode())
        assert base64.b64decode(proof["leaf_hash"]) == hashed
        verify_inclusion(hashed, item["index"], 3, decoded(proof), second.root)
    for earlier in (empty, first, second):
        proof = get("proofs/consistency", first=earlier.size, second=3).json()
        verify_consistency(earlier.size, 3, decoded(proof), earlier.root, second.root)


def test_entries_come_in_pages(get, registry):
    registry.model("reader")
    assert get("entries").json() == get("entries", start=0, end=1).json()
    assert get("entries", start=1).json() == {"items": [], "size": 1}


def test_what_the_log_does_not_have_is_refused(get, registry, subtests):
    registry.model("reader")
    for path, parameters in (
        ("entries", {"start": 2}),
        ("entries", {"start": 1, "end": 0}),
        ("entries", {"end": 2}),
        ("proofs/inclusion", {"index": 1, "size": 1}),
        ("proofs/inclusion", {"index": 0, "size": 0}),
        ("proofs/inclusion", {"index": 0, "size": 2}),
        ("proofs/consistency", {"first": 1, "second": 0}),
        ("proofs/consistency", {"first": 0, "second": 2}),
    ):
        with subtests.test(path, **parameters):
            response = get(path, **parameters)
            assert (response.status_code, response.json()["size"]) == (422, 1)
            assert response.json()["type"] == "urn:expunge:problem:no-such-tree"
    for path, parameters in (
        ("entries", {"start": -1}),
        ("proofs/inclusion", {"index": "x", "size": 1}),
        ("proofs/inclusion", {"index": 0}),
        ("proofs/consistency", {"first": 1 << 60, "second": 1 << 60}),
    ):
        with subtests.test(path, **parameters):
            assert get(path, **parameters).json()["type"] == "urn:expunge:problem:invalid-request"


def test_the_log_takes_a_key_with_its_scope(get, make_key):
    assert get("checkpoint", headers={}).status_code == 401
    assert get("checkpoint", headers=make_key(Scope.MODELS_READ)).status_code == 403
    assert get("checkpoint", headers=make_key(Scope.REQUESTS_READ)).status_code == 200


def test_the_public_keys_are_shown(get, runtime):
    shown = get("key").json()
    signer = runtime.signing.require()
    assert shown["origin"] == "test.example/log"
    assert [key_id for key_id, _ in read_public_keys(shown["public_key"].encode())] == [
        signer.certificates.id
    ]
    assert {(key["purpose"], key["current"]) for key in shown["keys"]} == {
        ("certificates", True),
        ("checkpoints", True),
    }
