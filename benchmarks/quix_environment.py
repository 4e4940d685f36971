"""The virtual environment of the Quix Streams peer, made on first use.

quixstreams pins confluent-kafka below what Tradetape uses, so the two cannot share one. What is installed is
``quix.lock``, hashes and all; a changed lock file is another environment.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tradetape.infra import settings
from tradetape.schemas.errors import TradetapeError

CHECKOUT = Path(__file__).resolve().parent.parent
LOCK = Path(__file__).with_name("quix.lock")
"""``uv pip compile --universal --generate-hashes`` of quixstreams and of what the core and the codec import."""

_READY = ".ready"


def python() -> Path:
    """The interpreter of the environment, made where there is none. Raises TradetapeError where it cannot be made."""
    folder = _folder()
    interpreter = folder / "bin" / "python"
    if not (folder / _READY).exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        _run([sys.executable, "-m", "venv", str(folder)], folder)
        pip = [str(interpreter), "-m", "pip", "install", "--disable-pip-version-check", "--quiet", "--require-hashes"]
        _run([*pip, "-r", str(LOCK)], folder)
        (folder / _READY).touch()
    return interpreter


def variables() -> dict[str, str]:
    """What the environment's interpreter needs to find the checkout."""
    return {"PYTHONPATH": os.pathsep.join((str(CHECKOUT), str(CHECKOUT / "lib")))}


def _folder() -> Path:
    version = "".join(map(str, sys.version_info[:2]))
    name = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    return settings.resolve_cache() / "benchmarks" / f"quix-{name}-py{version}"


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise TradetapeError(
            f"the environment for Quix Streams in {folder} cannot be made: {lines[-1] if lines else done.returncode}",
            hint=f"check that pip can install {LOCK.name}, or name the benchmarks that do without it: "
            "python -m benchmarks instances recovery sink",
        )
