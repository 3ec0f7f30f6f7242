import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from app.trust.log.notes import (
    NoteError,
    TreeHead,
    VerifierKey,
    check_key_name,
    parse_note,
    sign_note,
    verify_note,
)

SPEC_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
SPEC_NOTE = (
    "This is an example message.\n\n\u2014 example.com/foo "
    "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)
"""Key and note of C2SP's signed-note."""
SPEC_HEAD = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
PRIVATE = Ed25519PrivateKey.from_private_bytes(b"p" * 32)
KEY = VerifierKey("log.example/one", PRIVATE.public_key().public_bytes_raw())
NOTE = sign_note(TreeHead("log.example/one", 7, b"r" * 32).text(), KEY, PRIVATE.sign)


def test_the_specifications_note_verifies_under_its_key():
    key = VerifierKey.parse(SPEC_KEY)
    assert str(key) == SPEC_KEY
    assert verify_note(SPEC_NOTE.encode(), [key]) == "This is an example message.\n"


def test_the_specifications_tree_head_is_read_and_written_as_it_is():
    head = TreeHead.parse(SPEC_HEAD)
    assert (head.origin, head.size, len(head.root)) == ("example.com/behind-the-sofa", 20852163, 32)
    assert head.text() == SPEC_HEAD


def test_a_signed_tree_head_comes_back():
    assert TreeHead.parse(verify_note(NOTE.encode(), [KEY], alone=True)) == TreeHead(
        "log.example/one", 7, b"r" * 32
    )


def test_lines_by_unknown_keys_are_ignored_unless_the_note_must_stand_alone():
    stranger = Ed25519PrivateKey.generate()
    other = VerifierKey("witness.example", stranger.public_key().public_bytes_raw())
    line = sign_note(parse_note(NOTE.encode())[0], other, stranger.sign).rpartition("\n\n")[2]
    cosigned = (NOTE + line).encode()
    assert verify_note(cosigned, [KEY]) == parse_note(NOTE.encode())[0]
    with pytest.raises(NoteError, match="unknown keys"):
        verify_note(cosigned, [KEY], alone=True)


def test_a_key_of_another_name_does_not_count():
    with pytest.raises(NoteError, match="not signed by the key"):
        verify_note(NOTE.encode(), [VerifierKey("log.example/two", KEY.public_key)])


@settings(max_examples=300)
@given(st.integers(0, len(NOTE.encode()) - 1), st.integers(0, 7))
def test_any_flipped_bit_makes_a_note_fail(place, bit):
    content = bytearray(NOTE.encode())
    content[place] ^= 1 << bit
    with pytest.raises(NoteError):
        TreeHead.parse(verify_note(bytes(content), [KEY], alone=True))


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_with_a_sentence(content):
    with pytest.raises(NoteError):
        verify_note(content, [KEY])


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"\n",
        b"text\n",
        b"text\n\n",
        b"text\n\n\xe2\x80\x94 name\n",
        b"text\n\n\xe2\x80\x94 name AAAA\n",
        b"text\n\n\xe2\x80\x94 na+me AAAAAAAA\n",
        b"text\x00\n\n\xe2\x80\x94 name AAAAAAAA\n",
        b"text\n\n- name AAAAAAAA\n",
        NOTE.encode() * 2000,
        b"\xff" + NOTE.encode(),
        NOTE.encode() + b"\n",
    ],
)
def test_malformed_notes_are_refused(note):
    with pytest.raises(NoteError):
        verify_note(note, [KEY])


ROOT = base64.b64encode(b"r" * 32).decode()


@pytest.mark.parametrize(
    "text",
    [
        "origin\n7\n",
        f"\n7\n{ROOT}\n",
        f"origin\n07\n{ROOT}\n",
        f"origin\n-7\n{ROOT}\n",
        f"origin\n\u0667\n{ROOT}\n",
        "origin\n7\nAAAA\n",
        f"origin\n7\n{ROOT[:-2]}t=\n",
        f"origin\n7\n{ROOT}\n\nmore\n",
    ],
)
def test_malformed_tree_heads_are_refused(text):
    with pytest.raises(NoteError):
        TreeHead.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "name+00000000",
        SPEC_KEY.replace("530d903a", "530d903b"),
        SPEC_KEY.replace("foo", "fo"),
        "example.com/foo+530d903a+%%%",
        "example.com/foo+530d903a+AAAA",
        "a b+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
    ],
)
def test_malformed_verifier_keys_are_refused(text):
    with pytest.raises(NoteError):
        VerifierKey.parse(text)


@pytest.mark.parametrize("name", ["", "two words", "a+b", "x" * 256, "line\nbreak"])
def test_names_that_signature_lines_cannot_carry_are_refused(name):
    with pytest.raises(ValueError, match="without spaces"):
        check_key_name(name)
