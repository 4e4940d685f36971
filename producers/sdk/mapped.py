"""A bot's native records through its system's adapter into a Recorder: on record exactly as its store would be."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tradetape.producers.adapters.mapping import Adapter, Native
from tradetape.producers.adapters.origin import Origin
from tradetape.producers.recorder import Recorder
from tradetape.producers.sdk.chains import Recorded
from tradetape.schemas.errors import TradetapeError
from tradetape.schemas.instruments import Instruments

_OWN = frozenset({"payload", "event_type", "event_version", "instance_name", "producer", "account", "owner"})
"""Fields of the adapter's document that the recorder writes itself."""


class Mapped:
    """Records of one system, mapped and recorded. ``instruments`` says how its symbols are read."""

    def __init__(self, recorder: Recorder, adapter: Adapter, instruments: Instruments) -> None:
        self._recorder = recorder
        self._adapter = adapter
        self.origin = Origin(
            source_id=recorder.run_id,
            instance_name=recorder.instance_name,
            connector_name=recorder.connector_name,
            producer=recorder.producer,
            environment=recorder.environment,
            instruments=instruments,
        )

    def now(self) -> datetime:
        """The recorder's time."""
        return self._recorder.now()

    def new_id(self) -> str:
        """A fresh id."""
        return self._recorder.new_id()

    def record(
        self, native: Native, follows: Recorded | None = None, more: Mapping[str, Any] | None = None
    ) -> Recorded:
        """Record ``native`` with the payload keys ``more`` beside its own.

        Raises TradetapeError for a type that the system does not have, and as ``Recorder.record``.
        """
        document, problem = self._adapter.to_document(native, self.origin)
        if problem:
            raise TradetapeError(problem, hint=f"see producers/adapters/tables/{self._adapter.system}.toml")
        given: dict[str, Any] = {
            name: value for name, value in document.items() if name not in _OWN and value not in (None, "", [])
        }
        if "run_id" not in given:
            given.pop("sequence", None)  # the recorder counts its own run
        correlation_id = given.pop("correlation_id", None)
        causation_id = given.pop("causation_id", None)
        return self._recorder.record(
            document["event_type"],
            {**document["payload"], **(more or {})},
            follows=follows,
            correlation_id=correlation_id,
            causation_id=causation_id,
            adapter=self._adapter.name,
            native_type=native.spelling,
            **given,
        )
