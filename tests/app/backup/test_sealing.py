import io

import pytest

from app.backup import sealing
from app.backup.errors import BackupError
from app.backup.sealing import seal, seal_bytes, unseal, unseal_bytes

KEY, OTHER = b"k" * 32, b"o" * 32


@pytest.fixture(autouse=True)
def short_segments(monkeypatch):
    monkeypatch.setattr(sealing, "SEGMENT_BYTES", 10)


def sealed(content: bytes, name: str = "n", step: int = 7) -> bytes:
    out = io.BytesIO()
    seal(KEY, name, (content[start : start + step] for start in range(0, len(content), step)), out)
    return out.getvalue()


def opened(content: bytes, name: str = "n", key: bytes = KEY) -> bytes:
    return b"".join(unseal(key, name, io.BytesIO(content)))


@pytest.mark.parametrize("length", [0, 1, 9, 10, 11, 20, 95])
def test_what_was_sealed_comes_back(length):
    content = bytes(range(length))
    assert opened(sealed(content)) == content
    assert length < 9 or content[:9] not in sealed(content)


def test_segments_cannot_be_dropped_doubled_swapped_or_taken_from_elsewhere():
    whole = sealed(bytes(range(30)))
    size = len(whole) // 3
    first, second, third = (whole[start : start + size] for start in range(0, len(whole), size))
    other = sealed(bytes(range(30)), "other")[:size]
    for wrong in (first + second, second + third, first + third, first + first + second + third):
        with pytest.raises(BackupError):
            opened(wrong)
    for wrong in (second + first + third, other + second + third, whole + third, b""):
        with pytest.raises(BackupError):
            opened(wrong)


def test_another_key_or_name_opens_nothing():
    for name, key in (("other", KEY), ("n", OTHER)):
        with pytest.raises(BackupError):
            opened(sealed(b"content"), name, key)
        with pytest.raises(BackupError):
            unseal_bytes(key, name, seal_bytes(KEY, "n", b"content"))
    assert unseal_bytes(KEY, "n", seal_bytes(KEY, "n", b"content")) == b"content"


def test_a_segment_that_claims_to_be_huge_is_refused():
    with pytest.raises(BackupError, match="longer than segments are"):
        opened(b"\xff\xff\xff\xff")
