"""Where the `expunge` command begins, before anything else is imported."""

import sys
from typing import NoReturn

from app.quick_start import everything_stays


def main() -> NoReturn:
    """Run the command that the process was started with."""
    with everything_stays():
        from app.cli.program import run  # noqa: PLC0415 - this is what shall be quick
    sys.exit(run())
