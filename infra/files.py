"""Small files that several processes read and write: atomic JSON and a lock between processes."""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tradetape.schemas.errors import TradetapeError

_LOCK_POLL_SECONDS = 0.1


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Replace ``path`` by ``document`` so that a reader sees the old or the new file, never half of one.

    Parent folders are created. Raises OSError (its ``filename`` is set) when the disk refuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        with scratch.open("w", encoding="utf-8") as out:
            json.dump(document, out, indent=2, sort_keys=True)
            out.write("\n")
            out.flush()
            os.fsync(out.fileno())
        scratch.replace(path)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        if error.filename is None:
            error.filename = str(path)
        raise


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in ``path``, or None when there is no such file.

    Raises TradetapeError when the file is there and is not a JSON object.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise TradetapeError(f"{path} is damaged ({error})", hint="delete it and retry") from error
    if not isinstance(document, dict):
        raise TradetapeError(f"{path} is damaged (no JSON object)", hint="delete it and retry")
    return document


def try_lock(path: Path) -> int | None:
    """Take the exclusive lock on ``path`` if it is free: a file descriptor, or None.

    The lock ends when the descriptor is closed or its process ends, however it ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def locked(path: Path, *, timeout: float, what: str, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the exclusive lock on ``path``; ``waiting`` is called once if it has to be waited for.

    Raises TradetapeError naming ``what`` (who holds it) when it is not free within ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    told = False
    while (descriptor := try_lock(path)) is None:
        if waiting is not None and not told:
            waiting()
            told = True
        if time.monotonic() >= deadline:
            raise TradetapeError(f"{what} is still at work after {timeout:.0f} s", hint="wait for it, then retry")
        threading.Event().wait(_LOCK_POLL_SECONDS)
    try:
        yield
    finally:
        os.close(descriptor)
