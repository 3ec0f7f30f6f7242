"""Which held-out things methods may look at; torch-free."""

import hashlib


def in_audit_half(record_id: str) -> bool:
    """Tell whether a held-out record belongs to the audit half.

    A hash of the id decides, so that a record stays in its half whatever is added or removed around it.

    >>> in_audit_half("a"), in_audit_half("e")
    (False, True)
    """
    return bool(hashlib.sha256(record_id.encode()).digest()[0] & 1)
