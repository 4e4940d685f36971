"""A batch that ClickHouse refused, landed piece by piece: what it refuses alone goes to quarantine (P-08)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from tradetape.schemas.catalogue import output_schema
from tradetape.schemas.codec import HEADER, Decoder, Encoder, Undecodable
from tradetape.schemas.errors import TradetapeError
from tradetape.sinks.batch import UNSTORABLE, Record, token
from tradetape.sinks.store import BatchRefused, Store
from tradetape.sinks.tables import QUARANTINE, SENTINEL, SENTINEL_VALUE

log = logging.getLogger("tradetape.sink")

EXIT_UNQUARANTINABLE = 5


class Unquarantinable(TradetapeError):
    """Not even the quarantine takes a record: its partition stops, nothing is committed past it."""


def land_pieces(
    decoder: Decoder, records: Sequence[Record], put: Callable[[Sequence[Record]], None]
) -> list[tuple[Record, str]]:
    """Land ``records`` (refused as one) in halves, in order; returns those refused alone, each with the reason.

    ``decoder`` reads the schema that wrote them, ``put`` inserts a piece. Raises what it raises besides BatchRefused.
    """
    refused: list[tuple[Record, str]] = []

    def land(piece: Sequence[Record]) -> None:
        try:
            if len(piece) == 1:
                # ClickHouse takes a single row with bytes left over.
                decoder.decode(piece[0].value)
            put(piece)
        except (BatchRefused, Undecodable) as error:
            if len(piece) == 1:
                refused.append((piece[0], " ".join(str(error).split())))
                return
            middle = len(piece) // 2
            land(piece[:middle])
            land(piece[middle:])

    middle = (len(records) + 1) // 2
    for piece in (records[:middle], records[middle:]):
        if piece:
            land(piece)
    return refused


def quarantine(
    store: Store,
    topic: str,
    refused: Sequence[tuple[Record, str]],
    decoder: Decoder | None,
    hold: Callable[[], None],
) -> None:
    """Put each of ``refused`` in quarantine, reason ``unstorable``, with what can be read of it and its bytes.

    ``hold`` is called before each and raises where the batch is no longer ours. Raises Unquarantinable where it is
    refused there too.
    """
    schema = output_schema("audited")
    encoder = Encoder(schema, 0)
    for record, reason in refused:
        log.error("%s %s is refused and goes to quarantine: %s", topic, _text(record), reason[:300])
        last = ""
        for row in (_decoded_row(record, topic, reason, decoder), _minimal_row(record, topic, reason)):
            if row is None:
                continue
            hold()
            try:
                body = encoder.encode(row)[HEADER.size :]
                store.insert(QUARANTINE, schema, [body], token(QUARANTINE, topic, [record]))
                break
            except (BatchRefused, ValueError, TypeError) as error:
                last = str(error)
        else:
            raise Unquarantinable(
                f"{topic} {_text(record)} fits neither its table nor the quarantine: {last[:300]}",
                hint="nothing was committed past it; look at `query quarantine` and the record itself",
                exit_code=EXIT_UNQUARANTINABLE,
            )


def _text(record: Record) -> str:
    return ":".join(str(part) for part in record.identity)


def _minimal_row(record: Record, topic: str, reason: str) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for field in output_schema("audited")["fields"]:
        row[field["name"]] = _EMPTY.get(str(field["type"]), "")
        if isinstance(field["type"], list):
            row[field["name"]] = None
        elif isinstance(field["type"], dict):
            row[field["name"]] = [] if field["type"]["type"] == "array" else 0
    row.update(
        disposition="rejected",
        raw_partition=record.identity.raw_partition,
        raw_offset=record.identity.raw_offset,
        derived_seq=record.identity.derived_seq,
        reasons=[UNSTORABLE],
        reason_detail=f"{topic}: {reason}",
        ingest_ts_utc=record.timestamp,
        payload="{}",
        raw_schema_id=-1,
        raw=record.value,
    )
    row[SENTINEL] = SENTINEL_VALUE
    return row


_EMPTY = {"int": 0, "long": 0, "bytes": b""}


def _decoded_row(record: Record, topic: str, reason: str, decoder: Decoder | None) -> dict[str, Any] | None:
    if decoder is None:
        return None
    try:
        found = decoder.decode(record.value)
    except Undecodable:
        return None
    row = _minimal_row(record, topic, reason)
    kept = {"disposition", "reasons", "reason_detail", SENTINEL, "raw_partition", "raw_offset", "derived_seq"}
    if not found.get("raw"):
        # What an event caused: what is kept is the output itself.
        kept.add("raw")
    row.update({key: value for key, value in found.items() if key in row and key not in kept})
    row["reasons"] = [*found.get("reasons", []), UNSTORABLE]
    return row
