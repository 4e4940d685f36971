"""Kills for bots that listen on Redis: the stream and the keys of Quantum's document, section 3 (S4-06)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import redis

from tradetape.schemas import times
from tradetape.schemas.errors import TradetapeError
from tradetape.schemas.numbers import text

STREAM = "risk.kill_switch.activated"
MOST_ENTRIES = 10_000


ANSWER_SECONDS = 2.0


class KillStream:
    """Adds an entry for each kill. The same kill may come twice: ``kill_id`` tells.

    Raises TradetapeError for a URL that is none, and where Redis does not take a kill.
    """

    def __init__(self, url: str) -> None:
        self._place = url.rpartition("@")[2]
        try:
            self._redis = redis.Redis.from_url(
                url, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS
            )
        except ValueError as error:
            raise TradetapeError(f"{self._place} is no Redis ({error})", hint="write redis://host:port/db") from None

    def __call__(self, kill: Mapping[str, Any]) -> None:
        """``kill`` is a ``kill_ordered`` event."""
        try:
            self._redis.xadd(STREAM, entry(kill), maxlen=MOST_ENTRIES, approximate=True)
        except redis.RedisError as error:
            raise TradetapeError(f"Redis at {self._place} does not take the kill ({error})") from error


def entry(kill: Mapping[str, Any]) -> dict[Any, Any]:
    """The fields of a ``kill_ordered`` event: the document's, and after them whom it is about."""
    payload = kill["payload"]
    measured = {"trigger_value": payload["value"], "threshold": payload["threshold"]}
    scope = {name: payload[name] for name in ("environment", "account", "instance")}
    return {
        "timestamp": times.text(kill["ts_utc"]),
        "trigger": payload["rule"] or payload["trigger"],
        **{name: text(value) for name, value in measured.items() if value is not None},
        "severity": "CRITICAL",
        "action_taken": "none: Tradetape records, bots stop",
        "human_override_required": "true",
        "kill_id": payload["kill_id"],
        **{name: "*" if pattern is None else pattern for name, pattern in scope.items()},
    }
