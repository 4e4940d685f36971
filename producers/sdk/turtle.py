"""Turtle's event logger on the record (S0-09)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from tradetape.producers.adapters import turtle
from tradetape.producers.recorder import Recorder
from tradetape.producers.sdk.chains import Recorded
from tradetape.producers.sdk.mapped import Mapped
from tradetape.producers.sdk.values import plain
from tradetape.schemas.errors import TradetapeError
from tradetape.schemas.instruments import Instruments

UNTYPED = "untyped"
"""Payload key of what a context says in a kind that its schema does not have."""


class EventLogger:
    """Logs a bot's decisions, run by run. Build contexts with ``tradetape.producers.sdk.contexts``.

    Within a run the events of one symbol are one chain: the first is its root, each later one follows the one before.
    Events without a symbol are the run's own chain. Symbols are bare and quoted in USD unless ``instruments`` says
    otherwise. One logger for one run at a time; it is meant for one event loop.
    """

    def __init__(self, recorder: Recorder, instruments: Instruments | None = None) -> None:
        self._mapped = Mapped(recorder, turtle.ADAPTER, instruments or Instruments(quote="USD"))
        self._run_id = ""
        self._source = ""
        self._sequence = 0
        self._latest: dict[str, Recorded] = {}

    def start_run(self, source: str) -> UUID:
        """Begin a run of ``source`` (scanner or monitor); its events are numbered from 1."""
        self._run_id, self._source, self._sequence = self._mapped.new_id(), source, 0
        self._latest = {}
        return UUID(self._run_id)

    async def log(  # noqa: PLR0917 (the document's signature)
        self,
        event_type: str,
        outcome: str,
        symbol: str | None = None,
        outcome_reason: str | None = None,
        context: Mapping[str, Any] | None = None,
        dry_run: bool = False,
    ) -> Recorded:
        """Record one event with the run's next number.

        Raises TradetapeError before ``start_run``, for an unknown event type, for values that JSON cannot hold, and as
        ``Recorder.record``: then the number is not used.
        """
        if not self._run_id:
            raise TradetapeError("no run to log in", hint="call start_run(source) first")
        row = {
            "id": self._mapped.new_id(),
            "timestamp": self._mapped.now().isoformat(),
            "event_type": plain(event_type),
            "outcome": plain(outcome),
            "outcome_reason": outcome_reason,
            "run_id": self._run_id,
            "sequence": self._sequence + 1,
            "symbol": symbol,
            "context": plain(context or {}, "context"),
            "source": self._source,
            "dry_run": dry_run,
        }
        native, untyped = turtle.native_of(row, b"", None, turtle.STREAM)
        chain = symbol or ""
        recorded = self._mapped.record(
            native, follows=self._latest.get(chain), more={UNTYPED: untyped} if untyped else {}
        )
        self._sequence += 1
        self._latest[chain] = recorded
        await asyncio.sleep(0)
        return recorded
