"""Helpers of the test suite."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from tradetape.infra.embedded.ports import is_free

T = TypeVar("T")

_POLL_SECONDS, _LONGEST_POLL_SECONDS = 0.02, 0.2
"""Between two looks: a tenth of the time waited so far, for what is waited for needs the processor too."""

_APART = range(30000, 32700)
"""Ports where no stack looks for a free one, and from which no connection goes out."""


def eventually(fn: Callable[[], T], timeout: float = 10.0, message: str = "") -> T:
    """Poll until ``fn`` returns something true, and return that.

    An AssertionError inside ``fn`` counts as "not yet". Fails after ``timeout`` seconds with ``message`` and
    what ``fn`` said last.
    """
    began = time.monotonic()
    while True:
        last: object
        try:
            value = fn()
            if value:
                return value
            last = value
        except AssertionError as error:
            last = error
        waited = time.monotonic() - began
        if waited >= timeout:
            raise AssertionError(f"not within {timeout} s: {message} (last: {last})")
        threading.Event().wait(min(max(waited / 10, _POLL_SECONDS), _LONGEST_POLL_SECONDS))


def ports_apart(*services: str) -> list[str]:
    """Options of `tradetape up` for ports that stay a stack's own while it is down, whatever other stacks do."""
    numbers = [port for port in random.sample(_APART, 50) if is_free(port)][: len(services)]
    return [part for name, port in zip(services, numbers, strict=True) for part in (f"--{name}-port", str(port))]
