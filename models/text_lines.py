"""Lines of text files from outside, with their numbers; torch-free."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from models.errors import DatasetError

MAX_LINE_BYTES: Final = 16 << 20


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank, with their numbers from 1. One line at a time is held.

    Raises:
        DatasetError: A line is longer than `MAX_LINE_BYTES`, or no UTF-8 text.
    """
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise DatasetError(f"{path.name}, line {number}: it is longer than {MAX_LINE_BYTES} bytes.")
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip("\r\n")
            except UnicodeDecodeError:
                raise DatasetError(f"{path.name}, line {number}: it is not UTF-8 text.") from None
            if text and not text.isspace():
                yield number, text
