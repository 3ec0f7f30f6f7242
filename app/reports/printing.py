"""From a sheet to a page: drawn by a process of its own, kept on disk.

The plotting library would make every API process several times as large, so a short-lived child draws
(`app.reports.render`). It gets the sheet and nothing else: no database, no storage, none of the service's secrets.
The same sheet gives the same page, so a page that was drawn once is kept under the digest of what it is made from.
"""

import hashlib
import importlib.metadata
import importlib.util
import logging
import os
import subprocess
import sys
import uuid
from functools import lru_cache
from pathlib import Path
from threading import BoundedSemaphore

from app.reports.errors import ReportBusyError, ReportFailedError, ReportNotInstalledError
from app.reports.schemas import Sheet

logger = logging.getLogger(__name__)

LIBRARIES = ("jinja2", "matplotlib")
CONCURRENT = 2
"""Pages that one process has drawn at once; each takes a core for about two seconds, and 100 MB."""
TURN_SECONDS = 10.0
RETRY_AFTER_SECONDS = 2
TIMEOUT_SECONDS = 60.0
MOST_PAGES = 500
"""Kept on disk, at some 200 kB each; the oldest go first."""
INHERITED = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "SYSTEMROOT", "VIRTUAL_ENV")
"""What the child needs of the environment, in which the service's passwords may stand."""

_turns = BoundedSemaphore(CONCURRENT)


def missing_libraries() -> list[str]:
    """Return those of the extra `report` that are not installed, without importing any."""
    return [name for name in LIBRARIES if importlib.util.find_spec(name) is None]


def page(sheet: Sheet, cache_dir: Path) -> bytes:
    """Return the page of a sheet.

    Raises:
        ReportNotInstalledError: This installation draws none.
        ReportBusyError: Others are being drawn.
        ReportFailedError: Drawing failed, or took too long.
    """
    if missing := missing_libraries():
        raise ReportNotInstalledError(missing)
    content = sheet.model_dump_json().encode()
    kept = cache_dir / "reports" / f"{hashlib.sha256(template_version().encode() + content).hexdigest()}.html"
    try:
        return kept.read_bytes()
    except FileNotFoundError:
        drawn = _drawn(content, cache_dir)
    _keep(kept, drawn)
    return drawn


@lru_cache
def template_version() -> str:
    """Return the digest of everything that a page's look depends on, besides the sheet."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.iterdir()):
        if path.suffix in {".py", ".css", ".html"}:
            digest.update(path.read_bytes())
    for name in LIBRARIES:
        digest.update(importlib.metadata.version(name).encode())
    return digest.hexdigest()


def _drawn(content: bytes, cache_dir: Path) -> bytes:
    if not _turns.acquire(timeout=TURN_SECONDS):
        raise ReportBusyError(RETRY_AFTER_SECONDS)
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "app.reports.render"],
            input=content,
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
            env=_environment(cache_dir),
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ReportFailedError(f"it took longer than {TIMEOUT_SECONDS:.0f} seconds") from None
    finally:
        _turns.release()
    if done.returncode != 0:
        # The last line names the error; what stands above it may quote the sheet.
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        logger.error("A report could not be drawn (status %d): %s", done.returncode, (lines or ["-"])[-1])
        raise ReportFailedError("the drawing process failed; the service's log says why")
    return done.stdout


def _environment(cache_dir: Path) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    # The library keeps its list of fonts there; a container's home directory may not be writable.
    fonts = str((cache_dir / "matplotlib").resolve())
    return {**inherited, "MPLCONFIGDIR": fonts, "MPLBACKEND": "svg", "OMP_NUM_THREADS": "1"}


def _keep(path: Path, content: bytes) -> None:
    """Keep a page, whole or not at all, and let go of the oldest. A full disk costs time, not the answer."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{uuid.uuid4().hex}.tmp")
        draft.write_bytes(content)
        draft.replace(path)
        pages = sorted(path.parent.glob("*.html"), key=_age)
        for old in pages[:-MOST_PAGES]:
            old.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("A report could not be kept in the cache: %s.", error.strerror)


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0  # another process has let go of it
