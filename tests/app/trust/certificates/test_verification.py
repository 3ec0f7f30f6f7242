"""What a stranger's verification accepts: the certificate as it is, and nothing that differs from it in any byte."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import jsonschema_rs
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.trust.canonical import canonical_json
from app.trust.certificates.bundle import Bundle, CertificateError
from app.trust.certificates.commitments import commitment_root, record_commitment
from app.trust.certificates.dsse import pre_authentication_encoding
from app.trust.certificates.statement import ATTESTS, Acceptance
from app.trust.certificates.verification import (
    TrustedKeys,
    verify_certificate,
    verify_consistency_of,
    verify_tree_head,
)
from app.trust.log.notes import TreeHead, VerifierKey
from tests.reference import merkle as slow

SCHEMA = json.loads((Path(__file__).parents[4] / "docs" / "certificate.schema.json").read_text())
QUICK = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def content(issued) -> bytes:
    return issued.bundle().to_bytes()


def test_the_certificate_verifies_and_says_what_it_attests_and_what_not(issued, content):
    verified = verify_certificate(content, issued.directory, issued.keys)
    said = " ".join(verified.sentences())
    assert (verified.index, verified.tree_head.size, verified.files) == (2, 6, 4)
    assert "named 2 records, which came to 2 records" in said
    assert "the guarantee 'exact'; 10 records remain" in said
    assert (
        "Earlier versions in use (1) were quarantined at publication, to be destroyed 30 days later" in said
    )
    assert "not a proof" in ATTESTS
    assert said.endswith(ATTESTS)


def test_the_statement_keeps_to_its_schema(issued):
    acceptance = Acceptance("person", "measured by hand", "an auditor")
    for changes in ({}, {"acceptance": acceptance}, {"audit": None}, {"started_at": None}):
        jsonschema_rs.validate(SCHEMA, json.loads(issued.bundle(**changes).payload))


def test_a_persons_acceptance_stands_in_the_verdicts_first_words(issued):
    bundle = issued.bundle(acceptance=Acceptance("person", "measured by hand", "an auditor"))
    verdict = json.loads(bundle.payload)["predicate"]["verdict"]
    assert verdict["words"].startswith(
        "an auditor accepted it although its audit did not pass: measured by hand."
    )
    assert (verdict["accepted_by"], verdict["reviewer"]) == ("person", "an auditor")


def test_no_id_stands_in_a_certificate(content, issued):
    assert "secret" not in content.decode()
    assert b"secret" not in issued.bundle().payload


def test_the_commitment_can_be_made_again_with_the_key_and_not_without():
    ids = ["a", "b", "c"]
    leaves = sorted(record_commitment(b"k", name) for name in ids)
    assert commitment_root(b"k", ids) == slow.root(leaves)
    assert commitment_root(b"k", ids) != commitment_root(b"l", ids)
    assert commitment_root(b"k", ids) != commitment_root(b"k", ids[:2])


def test_the_encoding_that_is_signed_is_that_of_the_dsse_protocol():
    encoded = pre_authentication_encoding(b"hello world", "http://example.com/HelloWorld")
    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_every_byte_of_a_certificate_counts(issued, content):
    """Each byte of the file once, changed in its lowest bit and to a space."""
    for place in range(len(content)):
        for value in {content[place] ^ 1, 0x20} - {content[place]}:
            changed = content[:place] + bytes([value]) + content[place + 1 :]
            with pytest.raises(CertificateError):
                verify_certificate(changed, issued.directory, issued.keys)


@QUICK
@given(st.data())
def test_any_edit_of_a_certificate_makes_it_fail(issued, content, data):
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, min(len(content), start + 40)))
    changed = content[:start] + data.draw(st.binary(max_size=8)) + content[end:]
    if changed == content:
        return
    with pytest.raises(CertificateError):
        verify_certificate(changed, issued.directory, issued.keys)


def test_every_byte_of_the_checkpoint_counts(issued, content, tmp_path):
    directory = tmp_path / "version"
    shutil.copytree(issued.directory, directory)
    for path in [path for path in directory.rglob("*") if path.is_file()]:
        original = path.read_bytes()
        for place in range(len(original)):
            path.write_bytes(original[:place] + bytes([original[place] ^ 0x80]) + original[place + 1 :])
            with pytest.raises(CertificateError, match="not what was certified: changed"):
                verify_certificate(content, directory, issued.keys)
        path.write_bytes(original)
    verify_certificate(content, directory, issued.keys)


def test_missing_extra_and_linked_files_are_named(issued, content, tmp_path):
    directory = tmp_path / "version"
    shutil.copytree(issued.directory, directory)
    (directory / "extra.bin").write_bytes(b"")
    with pytest.raises(CertificateError, match=r"not part of the certified version: 'extra\.bin'"):
        verify_certificate(content, directory, issued.keys)
    (directory / "extra.bin").unlink()
    (directory / "config.json").unlink()
    with pytest.raises(CertificateError, match=r"missing: 'config\.json'"):
        verify_certificate(content, directory, issued.keys)
    (directory / "config.json").symlink_to(issued.directory / "config.json")
    with pytest.raises(CertificateError, match="link or special file"):
        verify_certificate(content, directory, issued.keys)
    with pytest.raises(CertificateError, match="is not a directory"):
        verify_certificate(content, tmp_path / "nowhere", issued.keys)


def test_another_key_verifies_nothing(issued, content):
    stranger = Ed25519PrivateKey.generate().public_key()
    with pytest.raises(CertificateError, match="not signed by the key that was given"):
        verify_certificate(content, issued.directory, TrustedKeys({"0" * 64: stranger}))
    [key_id] = issued.keys.certificates
    with pytest.raises(CertificateError, match="it was changed"):
        verify_certificate(content, issued.directory, TrustedKeys({key_id: stranger}))


def test_a_log_key_of_its_own_must_have_signed_the_tree_head(issued, content):
    good = TrustedKeys(issued.keys.certificates, [issued.signer.verifier_key])
    verify_certificate(content, issued.directory, good)
    other = VerifierKey("log.example", Ed25519PrivateKey.generate().public_key().public_bytes_raw())
    with pytest.raises(CertificateError, match="tree head does not hold"):
        verify_certificate(content, issued.directory, TrustedKeys(issued.keys.certificates, [other]))


def test_a_proof_for_another_certificate_is_refused(issued):
    one, two = issued.bundle(), issued.bundle(seed=18)
    swapped = replace(one, leaf=two.leaf, proof=two.proof, tree_head=two.tree_head)
    with pytest.raises(CertificateError, match="records something else"):
        verify_certificate(swapped.to_bytes(), issued.directory, issued.keys)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"proof": ()}, "has 0 hashes"),
        ({"proof": (b"x" * 32,) * 3}, "does not lead"),
        ({"proof": (b"short",) * 3}, "must have 32 bytes"),
        ({"size": 5}, "another size"),
        ({"index": 3}, "records something else"),
        ({"tree_head": "log.example\n6\nAAAA\n"}, "tree head does not hold"),
        ({"tree_head": ""}, "tree head does not hold"),
        ({"leaf": "{"}, "not canonical JSON"),
        ({"leaf": "{}"}, "log's leaf must have"),
        ({"key_id": "none"}, "not signed by the key"),
        ({"signature": b""}, "it was changed"),
        ({"payload": b"{}"}, "it was changed"),
    ],
)
def test_wrong_parts_are_told_of_in_a_sentence(issued, changes, message):
    broken = replace(issued.bundle(), **changes).to_bytes()
    with pytest.raises(CertificateError, match=message) as caught:
        verify_certificate(broken, issued.directory, issued.keys)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize("payload", [b"{}", b"[]", b"\xff", b'{"_type":"https://in-toto.io/Statement/v1"}'])
def test_a_signed_statement_of_something_else_is_refused(issued, payload):
    signature = issued.signer.sign_certificate(pre_authentication_encoding(payload))
    other = replace(issued.bundle(), payload=payload, signature=signature).to_bytes()
    with pytest.raises(CertificateError, match="statement"):
        verify_certificate(other, issued.directory, issued.keys)


def malformed():
    yield from (
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"{" * 100_000,
        b'{"a":1e999}',
        b'{"a":' + b"9" * 5000 + b"}",
    )
    yield b" " * ((32 << 20) + 1)
    for value in (None, 1, "x", [], {}, {"envelope": 1}):
        for name in ("envelope", "log"):
            base = {"envelope": {}, "log": {}, "mediaType": "application/vnd.expunge.certificate.v1+json"}
            yield canonical_json({**base, name: value}).encode()


def test_malformed_certificates_give_a_sentence(issued, subtests):
    for number, content in enumerate(malformed()):
        with subtests.test(number=number):
            with pytest.raises(CertificateError) as caught:
                verify_certificate(content, issued.directory, issued.keys)
            assert "\n" not in str(caught.value)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@QUICK
@given(st.data())
def test_values_of_any_shape_in_any_member_give_a_sentence(issued, content, data):
    value = json.loads(content)
    places = [
        (value, "mediaType"),
        (value, "envelope"),
        (value, "log"),
        *((value["envelope"], name) for name in ("payload", "payloadType", "signatures")),
        *((value["envelope"]["signatures"][0], name) for name in ("keyid", "sig")),
        *((value["log"], name) for name in ("index", "leaf", "proof", "size", "tree_head")),
    ]
    parent, name = data.draw(st.sampled_from(places))
    put = data.draw(JSON)
    if put == parent[name]:
        return
    parent[name] = put
    with pytest.raises(CertificateError):
        verify_certificate(canonical_json(value).encode(), issued.directory, issued.keys)


def test_a_bundle_comes_back_from_its_bytes(issued, content):
    assert Bundle.parse(content) == issued.bundle()
    assert Bundle.parse(content).to_bytes() == content


def head(size, leaves):
    return TreeHead("log.example", size, slow.root(leaves[:size]))


def test_consistency_with_a_kept_tree_head_is_checked():
    import base64

    leaves = [bytes([number]) for number in range(9)]
    proof = {"hashes": [base64.b64encode(value).decode() for value in slow.proof(3, leaves)]}
    verify_consistency_of(head(3, leaves), head(9, leaves), proof)
    verify_consistency_of(head(9, leaves), head(9, leaves), {})
    rewritten = [*leaves[:2], b"x", *leaves[3:]]
    for first, second, given_proof, message in (
        (head(3, rewritten), head(9, leaves), proof, "history was rewritten"),
        (head(9, leaves), head(9, rewritten), {}, "history was rewritten"),
        (head(9, leaves), head(3, leaves), proof, "fewer entries"),
        (head(3, leaves), head(9, leaves), {}, "it needs"),
        (head(3, leaves), head(9, leaves), {"hashes": "x"}, "a list of texts"),
        (head(3, leaves), head(9, leaves), {"hashes": ["%"] * 4}, "not base64"),
        (replace(head(3, leaves), origin="other"), head(9, leaves), proof, "of two logs"),
    ):
        with pytest.raises(CertificateError, match=message):
            verify_consistency_of(first, second, given_proof)


def test_a_tree_head_alone_is_verified_too(issued):
    note = issued.signer.sign_tree_head(3, b"r" * 32).encode()
    assert verify_tree_head(note, issued.keys).size == 3
    with pytest.raises(CertificateError, match="tree head does not hold"):
        verify_tree_head(note.replace(b"\n3\n", b"\n4\n"), issued.keys)
