"""Helpers of the test suite."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_POLL_SECONDS = 0.02


def eventually(fn: Callable[[], T], timeout: float = 10.0, message: str = "") -> T:
    """Poll until ``fn`` returns something true, and return that.

    An AssertionError inside ``fn`` counts as "not yet". Fails after ``timeout`` seconds with ``message`` and
    what ``fn`` said last.
    """
    deadline = time.monotonic() + timeout
    while True:
        last: object
        try:
            value = fn()
            if value:
                return value
            last = value
        except AssertionError as error:
            last = error
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {timeout} s: {message} (last: {last})")
        threading.Event().wait(_POLL_SECONDS)
