"""What made a candidate: the code, the libraries, and what its architecture declares. For its certificate.

Asked in the job's own process, since that may be on another machine than the worker.
"""

import hashlib
import importlib.metadata
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import models
import unlearning

LIBRARIES = ("numpy", "safetensors", "scipy", "torch", "torch-geometric")


def describe_making(architecture: Mapping[str, Any]) -> dict[str, Any]:
    """Return it as JSON values.

    Args:
        architecture: The new model as its architecture describes it, with what it says of frozen parts.
    """
    return {"checkpoint_declares": dict(architecture), "software": SOFTWARE}


def _software() -> dict[str, Any]:
    return {
        "expunge": importlib.metadata.version("expunge"),
        "libraries": {name: version for name in LIBRARIES if (version := _version(name)) is not None},
        "python": platform.python_version(),
        "source_sha256": _source_digest(),
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _source_digest() -> str:
    """Return one SHA-256 over every source file of the science: two numbers alike may be different code."""
    digest = hashlib.sha256()
    for package in (models, unlearning):
        root = Path(str(package.__file__)).parent
        for path in sorted(root.rglob("*.py")):
            digest.update(f"{package.__name__}/{path.relative_to(root).as_posix()}\n".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


SOFTWARE = _software()
"""Found out when the forkserver imports this, as it is that code which its jobs run; and a job would wait for it."""
