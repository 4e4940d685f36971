"""From native records to events by a table: pure, never raises, never drops (S3-10).

A table (``tables/<system>.toml``) has one entry for each native type:

    [ORDER_PLACED]
    event = "order_created"
    by_outcome = { rejected = "order_failed" }                   # another event for this outcome
    [ORDER_PLACED.payload]
    amount_base = "quantity"                                      # renamed
    price = ["limit_price", "price"]                              # the first that is there
    fee_amount = { from = "fee", assume = "0" }                   # assumed where it is missing: listed in ``assumed``
    side = { as = "side_of" }                                     # a named function of the adapter
    fill_qty_quote = { as = "notional", derived = true }          # computed, and listed in ``assumed``
    purpose = { is = "entry" }                                    # what the native type says by its name
    [ORDER_PLACED.envelope]
    outcome = "status"                                            # the same for envelope fields

Paths are into the native payload. A path without a dot is moved: the key is gone from what is left; one with dots
(``context.order.action``) is copied. A name that the chosen event's schema does not have is skipped. What is left of
the payload keeps its names: typed where the schema knows them, else in ``extra``. Text, numbers and times become what
the schema asks for; what cannot is left as it is, for the contract rules to refuse.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from tradetape.producers import events, unmapped
from tradetape.producers.adapters.coerce import coerce
from tradetape.producers.adapters.native import at, moment
from tradetape.producers.adapters.origin import Origin
from tradetape.producers.events import Event
from tradetape.schemas import envelope_json, environments, identity, times
from tradetape.schemas.catalogue import EVENT_VERSION, EventType, event_types
from tradetape.schemas.fields import envelope_fields, payload_fields


@dataclass(frozen=True, slots=True)
class Native:
    """One record of a native store.

    ``type`` is the native type in the table's spelling, ``spelling`` as the source wrote it. ``envelope`` holds what
    the store's own columns say under the contract's names (event_id, ts_utc, correlation_id, sequence, outcome,
    trading_pair as a symbol, …), times in any native form. ``content`` is the record's bytes. ``problem`` says why its
    payload could not be read. ``related`` is what the connector looked up elsewhere in the store (e.g. the order that
    a fill belongs to).
    """

    type: str
    spelling: str
    payload: Mapping[str, Any]
    envelope: Mapping[str, Any]
    content: bytes
    stream: str
    position: int | None
    problem: str = ""
    related: Mapping[str, Any] = field(default_factory=dict)


Compute = Callable[[Native, Origin], Any]
"""A named function of an adapter: a value, None where there is none. It must not raise."""


@dataclass(frozen=True, slots=True)
class Take:
    """Where one value comes from: the first of ``paths`` that is there, ``compute``, ``constant`` or ``assume``."""

    paths: tuple[str, ...] = ()
    compute: str = ""
    constant: Any = None
    assume: Any = None
    derived: bool = False

    @classmethod
    def of(cls, spec: Any) -> Take:
        if isinstance(spec, str):
            return cls(paths=(spec,))
        if isinstance(spec, list):
            return cls(paths=tuple(spec))
        unknown = spec.keys() - {"from", "as", "is", "assume", "derived"}
        if unknown:
            raise ValueError(f"unknown keys in a mapping: {', '.join(sorted(unknown))}")
        paths = spec.get("from", [])
        return cls(
            paths=(paths,) if isinstance(paths, str) else tuple(paths),
            compute=spec.get("as", ""),
            constant=spec.get("is"),
            assume=spec.get("assume"),
            derived=spec.get("derived", False),
        )


@dataclass(frozen=True, slots=True)
class Rule:
    """What one native type becomes."""

    event: str
    by_outcome: Mapping[str, str]
    payload: Mapping[str, Take]
    envelope: Mapping[str, Take]

    def event_for(self, outcome: Any) -> str:
        """The canonical event type for a native outcome."""
        return self.by_outcome.get(outcome, self.event) if isinstance(outcome, str) else self.event


@cache
def rules(system: str) -> Mapping[str, Rule]:
    """The table of one system, by native type."""
    source = files("tradetape.producers.adapters").joinpath("tables", f"{system}.toml")
    entries = tomllib.loads(source.read_text(encoding="utf-8"))
    return {
        name: Rule(
            event=entry["event"],
            by_outcome=entry.get("by_outcome", {}),
            payload={key: Take.of(spec) for key, spec in entry.get("payload", {}).items()},
            envelope={key: Take.of(spec) for key, spec in entry.get("envelope", {}).items()},
        )
        for name, entry in entries.items()
    }


@dataclass(frozen=True, slots=True)
class Adapter:
    """The mapping of one system: its table, and the functions that the table names."""

    system: str
    version: int
    functions: Mapping[str, Compute] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.system}@{self.version}"

    def to_event(self, native: Native, origin: Origin) -> Event:
        """The typed event of ``native``, or the UnmappedRecord that keeps its bytes and says what is wrong."""
        stamps = self._stamps(native, origin)
        document, problem = self.to_document(native, origin)
        reading = envelope_json.read_document(document, source_id=origin.source_id, legacy=origin.legacy)
        if reading.ok and not problem:
            return reading.event | stamps
        fields = reading.event | stamps
        if not fields.get("event_id"):
            key = (native.stream, str(native.position), _writable(native.type))
            fields["event_id"] = identity.derive(origin.source_id, *key)
        fields.setdefault("ts_utc", 0)
        return unmapped.unmapped(
            format=self.system,
            error=problem or unmapped.explain(reading.violations),
            native=native.content,
            fields=fields,
            location=origin.location,
            line=native.position,
        )

    def to_document(self, native: Native, origin: Origin) -> tuple[dict[str, Any], str]:
        """``native`` as an envelope in the values of parsed JSON, and why it is none (empty if it is one)."""
        rule = rules(self.system).get(native.type)
        if rule is None:
            problem = native.problem or f"no {self.system} event type {native.spelling[:200]!r}"
            return self._envelope(native, origin, "", {}, []), problem
        assumed: list[str] = []
        event_type = event_types()[rule.event_for(native.envelope.get("outcome"))]
        context = {
            name: value
            for name, take in rule.envelope.items()
            if (value := self._value(name, take, native, origin, assumed)) is not None
        }
        payload = self._payload(native, origin, rule, event_type, assumed)
        document = self._envelope(native, origin, event_type.name, context, assumed)
        document["payload"] = payload
        return document, native.problem

    def _payload(
        self, native: Native, origin: Origin, rule: Rule, event_type: EventType, assumed: list[str]
    ) -> dict[str, Any]:
        taken: dict[str, Any] = {}
        renamed: set[str] = set()
        moved: set[str] = {path for take in rule.envelope.values() for path in take.paths if "." not in path}
        for name, take in rule.payload.items():
            if name not in event_type.payload_keys:
                continue
            value = self._value(name, take, native, origin, assumed)
            read = [path for path in take.paths if "." not in path and native.payload.get(path) is value]
            moved.update(read)
            if value is not None:
                taken[name] = value
                if read:
                    renamed.add(name)
        left = {key: value for key, value in native.payload.items() if key not in moved}
        # A native key may have the name of a canonical one that another key became: both are kept.
        other = {f"native_{key}": left[key] for key in left.keys() & renamed if left[key] != taken[key]}
        payload = {**left, **other, **taken}
        for name, declared in payload_fields(event_type.name).items():
            if payload.get(name) is not None:
                payload[name] = coerce(payload[name], declared)
        return payload

    def _value(self, name: str, take: Take, native: Native, origin: Origin, assumed: list[str]) -> Any:
        if take.constant is not None:
            return take.constant
        for path in take.paths:
            value = native.payload.get(path) if "." not in path else at(native.payload, path)
            if value is not None:
                return value
        value = self.functions[take.compute](native, origin) if take.compute else None
        if value is not None and take.derived:
            assumed.append(name)
        if value is None and take.assume is not None:
            assumed.append(name)
            return take.assume
        return value

    def _envelope(
        self, native: Native, origin: Origin, event_type: str, context: Mapping[str, Any], assumed: list[str]
    ) -> dict[str, Any]:
        given = {name: value for name, value in (*native.envelope.items(), *context.items()) if value is not None}
        if "event_id" not in given:
            given["event_id"] = identity.derive(origin.source_id, native.stream, str(native.position))
        document: dict[str, Any] = {
            "producer": origin.producer,
            "instance_name": origin.instance_name,
            "controller_id": "",
            "connector_name": origin.connector_name,
            "trading_pair": "",
            "correlation_id": "",
            "account": origin.account,
            "owner": origin.owner,
            "payload": {},
            **given,
            "event_type": event_type,
            "event_version": EVENT_VERSION,
            "assumed": assumed,
        }
        known = envelope_fields()
        for name, value in document.items():
            if name in known and name not in ("ts_utc", "assumed"):
                document[name] = coerce(value, known[name])
        document["ts_utc"] = moment(document.get("ts_utc"))
        if isinstance(document["trading_pair"], str):
            document["trading_pair"] = origin.instruments.pair(document["trading_pair"])
        said = _said_environment(native, origin)
        document["environment"] = environment_of(native, origin)
        if document["environment"] != said:
            assumed.append("environment")
        return document

    def _stamps(self, native: Native, origin: Origin) -> dict[str, Any]:
        return {
            "source_system": self.system,
            "source_id": origin.source_id,
            "source_stream": native.stream,
            "source_position": native.position,
            "adapter": self.name,
            "native_type": _writable(native.spelling),
            "ingest_source": origin.ingest_source or self.system,
            "legacy": origin.legacy,
            "native": native.content,
        }

    def ended(self, origin: Origin, *, rows: Mapping[str, int], counts: Mapping[str, int], latest: int) -> Event:
        """The control event of a source read to its end: records by stream and the events they became, from the start.

        ``latest`` is the newest record's time in microseconds.
        """
        key = ",".join(f"{stream}:{count}" for stream, count in sorted(rows.items()))
        event_id = identity.derive(origin.source_id, "source_ended", key)
        return self.control(
            origin, "source_ended", {"rows": dict(rows), "events": dict(counts)}, event_id, latest or times.EARLIEST
        )

    def gap(self, origin: Origin, payload: Mapping[str, Any], *key: str, ts_utc: int) -> Event:
        """A ``system_gap`` control event: events known to be missing. ``key`` tells this gap from others for ever."""
        full = {"count": None, "first": None, "last": None, "detail": None, **payload}
        event_id = identity.derive(origin.source_id, "system_gap", full["stream"], full["reason"], *key)
        return self.control(origin, "system_gap", full, event_id, ts_utc)

    def control(self, origin: Origin, event_type: str, payload: dict[str, Any], event_id: str, ts_utc: int) -> Event:
        """A control event about the source itself; it has no position, and is known again by its id."""
        return events.envelope(
            event_id=event_id,
            event_type=event_type,
            ts_utc=ts_utc,
            producer=origin.producer,
            instance_name=origin.instance_name,
            connector_name=origin.connector_name,
            correlation_id=event_id,
            account=origin.account,
            owner=origin.owner,
            environment=origin.environment or environments.of_connector(origin.connector_name),
            source_system=self.system,
            source_id=origin.source_id,
            adapter=self.name,
            ingest_source=origin.ingest_source or self.system,
        ) | {"payload": payload}


def environment_of(native: Native, origin: Origin) -> str:
    """The environment of ``native``: its own, else its source's, else its connector's; a dry run is never live."""
    dry_run = coerce(native.envelope.get("dry_run"), envelope_fields()["dry_run"])
    return environments.of_dry_run(_said_environment(native, origin), dry_run)


def _said_environment(native: Native, origin: Origin) -> Any:
    said = native.envelope.get("environment") or origin.environment
    return said or environments.of_connector(origin.connector_name)


def is_live(native: Native, origin: Origin) -> bool:
    """``is_live`` of an order, where the native record does not say it."""
    return environment_of(native, origin) == environments.LIVE


def _writable(spelling: str) -> str:
    return spelling.encode("utf-8", "backslashreplace").decode()[: unmapped.MAX_FIELD_BYTES // 4]
