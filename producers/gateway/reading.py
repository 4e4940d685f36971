"""An event as sent → a typed event, or an UnmappedRecord with the same bytes; into the spool and back (S3-01, S3-05).

Pure. The bytes as sent travel in ``native`` either way. What comes out of the spool is the event that would have gone
to Kafka at once, under the same id.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any, NamedTuple

import orjson

from tradetape.producers import unmapped
from tradetape.producers.adapters.envelope import ADAPTER, SYSTEM, Origin
from tradetape.producers.events import Event
from tradetape.producers.gateway.body import Item
from tradetape.producers.spool import documents
from tradetape.schemas import envelope_json, identity
from tradetape.schemas.rules import Violation

INGEST_SOURCE = "http"
FORM = "gateway@1"
"""Says what a record of the spool is."""


class Taken(NamedTuple):
    """One event as sent and what became of it; ``reasons`` are the rules it breaks, ``error`` why it was not read."""

    origin: Origin
    native: bytes
    event: Event
    reasons: list[Violation]
    error: str = ""

    @property
    def result(self) -> dict[str, Any]:
        """The answer for this event."""
        return {
            "event_id": self.event["event_id"],
            "status": "evidence" if self.reasons else "accepted",
            "reasons": [{"code": code, "detail": _utf8(detail)} for code, detail in self.reasons],
        }


def read(origin: Origin, item: Item) -> Taken:
    """The event of ``item``; never raises. What breaks the contract is evidence, and the processor rejects it."""
    if isinstance(item.document, dict):
        reading = envelope_json.read_document(item.document, source_id=origin.source_id, legacy=origin.legacy)
    else:
        reading = envelope_json.read(item.native, source_id=origin.source_id, legacy=origin.legacy)
    reasons = reading.violations
    if reading.event_type is not None and reading.event_type.control:
        reasons = [*reasons, Violation("unmapped", f"{reading.event_type.name} is written by Tradetape only")]
    fields = reading.event | _stamps(origin)
    if not reasons:
        return Taken(origin, item.native, fields | {"native": item.native}, [])
    return Taken(origin, item.native, _unmapped(origin, item.native, fields, unmapped.explain(reasons)), reasons)


def unread(origin: Origin, native: bytes, error: str) -> Taken:
    """The evidence of a body that cannot be read at all, because of ``error``."""
    reasons = [Violation("not_json", error)]
    return Taken(origin, native, _unmapped(origin, native, _stamps(origin), unmapped.explain(reasons)), reasons, error)


def refused(taken: Taken, error: str) -> Taken:
    """``taken`` as evidence: its typed form could not be written, because of ``error``."""
    reasons = [*taken.reasons, Violation("unmapped", error)]
    return taken._replace(event=_unmapped(taken.origin, taken.native, taken.event, error), reasons=reasons)


def to_record(taken: Taken) -> dict[str, Any]:
    """What the spool keeps of ``taken``: the bytes as sent, where they come from, and whose they are."""
    origin, event = taken.origin, taken.event
    record: dict[str, Any] = {
        "form": FORM,
        "location": origin.location,
        "source_id": origin.source_id,
        "legacy": origin.legacy,
        "instance_name": event["instance_name"],
        "producer": event["producer"],
    }
    if taken.error:
        record["error"] = taken.error
    try:
        record["native"] = taken.native.decode()
    except UnicodeDecodeError:
        record["native_base64"] = base64.b64encode(taken.native).decode()
    return record


def from_record(body: bytes) -> Event:
    """The event of what ``to_record`` made; a document of another kind is read as the SDK's."""
    try:
        record = orjson.loads(body)
    except ValueError:
        return documents.to_event(body)
    if not isinstance(record, dict) or record.get("form") != FORM:
        return documents.to_event(body)
    origin = Origin(record["source_id"], INGEST_SOURCE, record["location"], record["legacy"])
    text = record.get("native")
    native = base64.b64decode(record["native_base64"]) if text is None else text.encode()
    if "error" in record:
        return unread(origin, native, record["error"]).event
    return read(origin, Item(native)).event


def _stamps(origin: Origin) -> dict[str, Any]:
    return {
        "source_system": SYSTEM,
        "source_id": origin.source_id,
        "source_stream": INGEST_SOURCE,
        "source_position": None,
        "adapter": ADAPTER,
        "ingest_source": origin.ingest_source,
        "legacy": origin.legacy,
    }


def _unmapped(origin: Origin, native: bytes, fields: dict[str, Any], error: str) -> Event:
    if not fields.get("event_id"):
        content = hashlib.sha256(native).hexdigest()
        fields = fields | {"event_id": identity.derive(origin.source_id, INGEST_SOURCE, content)}
    return unmapped.unmapped(
        format=envelope_json.FORMAT, error=error, native=native, fields=fields, location=origin.location
    )


def _utf8(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
