"""Named places where a test can kill this process, or freeze it: crash points as data (P-06).

``TRADETAPE_CRASH_AT=sink.before_insert`` kills it with SIGKILL the first time it gets there,
``TRADETAPE_CRASH_AT=sink.before_insert:7`` the seventh time, ``sink.before_insert:7:STOP`` freezes it then
(SIGSTOP), until somebody lets it go on. Unset, reaching a point costs one comparison.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "TRADETAPE_CRASH_AT"


class _Target:
    def __init__(self, text: str) -> None:
        name, count, action = (*text.split(":"), "", "")[:3]
        self.name = name
        self.left = int(count) if count else 1
        self.signal = signal.Signals[f"SIG{action}"] if action else signal.SIGKILL


_target: _Target | None = _Target(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None


def reach(name: str) -> None:
    """Tell that the process is at ``name``; it dies or freezes here if the environment asks for it."""
    if _target is None or _target.name != name:
        return
    _target.left -= 1
    if _target.left == 0:
        os.kill(os.getpid(), _target.signal)
