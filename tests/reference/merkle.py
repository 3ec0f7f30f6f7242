"""RFC 6962, section 2.1, written down as it stands there: recursive, and slow."""

import hashlib


def largest_power_of_two_below(n):
    k = 1
    while 2 * k < n:
        k *= 2
    return k


def root(leaves):
    """MTH(D[n])"""
    n = len(leaves)
    if n == 0:
        return hashlib.sha256(b"").digest()
    if n == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = largest_power_of_two_below(n)
    return hashlib.sha256(b"\x01" + root(leaves[:k]) + root(leaves[k:])).digest()


def path(m, leaves):
    """PATH(m, D[n])"""
    n = len(leaves)
    if n == 1:
        return []
    k = largest_power_of_two_below(n)
    if m < k:
        return [*path(m, leaves[:k]), root(leaves[k:])]
    return [*path(m - k, leaves[k:]), root(leaves[:k])]


def proof(m, leaves):
    """PROOF(m, D[n])"""
    return subproof(m, leaves, whole=True)


def subproof(m, leaves, *, whole):
    n = len(leaves)
    if m == n:
        return [] if whole else [root(leaves)]
    k = largest_power_of_two_below(n)
    if m <= k:
        return [*subproof(m, leaves[:k], whole=whole), root(leaves[k:])]
    return [*subproof(m - k, leaves[k:], whole=False), root(leaves[:k])]
