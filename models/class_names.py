"""The order of class names; torch-free."""

from collections.abc import Iterable


def sort_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Sort class names; those of numbered classes by number, so that class k has label k where none is missing.

    >>> sort_classes(["10", "9"]), sort_classes(["10", "9", "a"])
    (('9', '10'), ('10', '9', 'a'))
    """
    names = list(names)
    if all(name.isascii() and name.isdigit() and str(int(name)) == name for name in names):
        return tuple(sorted(names, key=int))
    return tuple(sorted(names))
