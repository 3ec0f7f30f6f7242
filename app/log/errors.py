"""Refusals of the transparency log."""

from app.errors import ServiceError


class NoSuchTreeError(ServiceError):
    """A proof or entries were asked for that the log, as it is, cannot have."""

    status, slug, title = 422, "no-such-tree", "No such tree"

    def __init__(self, why: str, size: int) -> None:
        super().__init__(f"{why} The log has {size} entries now.", size=size)
