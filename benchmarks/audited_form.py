"""Two forms of the audited record, measured on the same events (docs/decisions/0001).

Form A, the one built: one flat record for all event types, payload as JSON, original bytes in ``raw``; one INSERT per
batch. Form B: the verdict's fields encoded in front of the undecoded original body, read under a derived schema per
event type; one container and one INSERT per event type.

Form B's side of the sink is built here for the comparison: it groups by type, cuts the original body out by the
verdict's length, puts it as bytes in front, and lands each type's container in a table like ``tradetape.events``.
ClickHouse turns the decoded payload into JSON text with ``toJSONString``. Both tables hold the same rows, except that
B's payload names absent keys as null and that B merges no unknown keys into it.
"""

from __future__ import annotations

import io
import json
import random
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
import fastavro
import lz4.frame
from clickhouse_connect.driver.client import Client

from benchmarks import stack
from benchmarks.sink import ClickHouse, create_like_events
from tradetape.infra import settings
from tradetape.processors import correlation, outputs, reading
from tradetape.processors.reading import RawRecord, Reading, WriterSchema
from tradetape.processors.state import PartitionState
from tradetape.processors.version import CORE_VERSION
from tradetape.producers.events import envelope
from tradetape.schemas import codec
from tradetape.schemas.catalogue import EventType, Schema, event_types, output_schema
from tradetape.sinks.container import Container, zigzag
from tradetape.sinks.migrate import migrate
from tradetape.sinks.store import _ONE_BLOCK
from tradetape.sinks.tables import Table, plan

EVENTS = 20_000
INSTANCES = 200
WORKER_ROUNDS = 5
SINK_ROUNDS = 2
KAFKA_BATCH = 500_000
CATALOGUE_TO_COME = 130
FLUSHES = {200: 20, 2_000: 8, 20_000: 4}
"""Rows per flush → flushes measured in a round; a quarter of them where each flush is 130 INSERTs."""

_START = 1_790_000_000_000_000
_AUDITED_ID = 1
_FRAMING = codec.HEADER.size
_END = b"\x04" + outputs.END.encode()

# What the verdict adds; the envelope has the rest. `chain` is the correlation id after judging (it may be backfilled).
_VERDICT_NAMES = (
    *("disposition", "raw_partition", "raw_offset", "derived_seq", "reasons", "reason_detail", "link", "findings"),
    *("core_version", "ingest_ts_utc", "raw_schema_id", "linked_by"),
)


def _verdict_fields() -> list[Schema]:
    declared = {field["name"]: field for field in output_schema("audited")["fields"]}
    return [*(declared[name] for name in _VERDICT_NAMES), {"name": "chain", "type": "string"}]


def derived_schema(event_type: EventType) -> Schema:
    """What form B's container holds: original bytes, length of the verdict, verdict, original fields, sentinel."""
    before = [{"name": "raw", "type": "bytes"}, {"name": "verdict_size", "type": "int"}]
    end = {"name": "_end", "type": "string"}
    fields = [*before, *_verdict_fields(), *event_type.schema["fields"], end]
    return {"type": "record", "name": f"Audited{event_type.name}", "namespace": "tradetape.v1", "fields": fields}


@dataclass(frozen=True, slots=True)
class Judged:
    """An accepted event, ready to be written in either form."""

    raw: RawRecord
    read: Reading
    link: str


def judged(count: int, names: Sequence[str], seed: int = 1) -> list[Judged]:
    """``count`` accepted events, the types ``names`` in turn."""
    types = event_types()
    encode = {name: codec.Encoder(types[name].schema, 100 + index) for index, name in enumerate(names)}
    schemas = {100 + index: WriterSchema(types[name].schema) for index, name in enumerate(names)}
    states = [PartitionState(partition, {}) for partition in range(4)]
    made = []
    for number, event in enumerate(_events(count, names, seed)):
        raw = RawRecord(number % 4, number // 4, event["ts_utc"] + 50_000, encode[event["event_type"]].encode(event))
        read = reading.read(raw, schemas.get)
        if read.event is None or read.event_type is None or reading.judge(read.event, read.event_type):
            raise RuntimeError(f"the load is not accepted: {event}")
        made.append(Judged(raw, read, correlation.link(raw, read.event, states[raw.partition]).link))
    return made


def _events(count: int, names: Sequence[str], seed: int) -> Iterator[dict[str, Any]]:
    rng = random.Random(seed)
    source = str(uuid.UUID(int=rng.getrandbits(128), version=4))
    for number in range(count):
        name = names[number % len(names)]
        made = envelope(
            event_type=name,
            event_id=str(uuid.UUID(int=rng.getrandbits(128), version=4)),
            ts_utc=_START + number * 1_000,
            producer="bench",
            instance_name=f"bot-{rng.randrange(INSTANCES):05d}",
            controller_id="mm",
            connector_name="kucoin",
            trading_pair=rng.choice(["BTC-USDT", "ETH-USDT", "ONE-USDT"]),
            correlation_id=str(uuid.UUID(int=rng.getrandbits(128), version=4)),
            source_system="bench",
            source_id=source,
            source_stream="orders",
            source_position=number,
        )
        yield {**made, "payload": _PAYLOADS[name](rng, f"{source[:13]}-{number}")}


def _price(rng: random.Random) -> Decimal:
    return Decimal(rng.randrange(10_000, 20_000)).scaleb(-2)


def _amount(rng: random.Random) -> Decimal:
    return Decimal(rng.randrange(2, 200)).scaleb(-1)


def _filled(rng: random.Random, order: str) -> dict[str, Any]:
    price, amount = _price(rng), _amount(rng)
    return {
        "client_order_id": order,
        "fill_price": price,
        "fill_qty_base": amount,
        "fill_qty_quote": price * amount,
        "fee_asset": "USDT",
        "fee_amount": (price * amount).scaleb(-3),
        "liquidity_side": "maker",
        "other_fees": [],
    }


_PAYLOADS: dict[str, Callable[[random.Random, str], dict[str, Any]]] = {
    "order_created": lambda rng, order: {
        "client_order_id": order,
        "side": "buy",
        "order_type": "limit",
        "price": _price(rng),
        "amount_base": _amount(rng),
        "is_live": True,
    },
    "order_filled": _filled,
    "order_cancelled": lambda _, order: {"client_order_id": order, "reason": "requote", "cancel_source": "strategy"},
    "order_completed": lambda _, order: {"client_order_id": order, "side": "buy"},
    "order_failed": lambda _, order: {"client_order_id": order, "error_message": "insufficient balance"},
    "order_expired": lambda _, order: {"client_order_id": order, "reason": "time in force"},
    "order_status": lambda _, order: {"client_order_id": order, "status": "PartiallyFilled"},
    "order_snapshot": lambda rng, order: {"client_order_id": order, "side": "sell", "price": _price(rng)},
    "risk_decision": lambda rng, _: {
        "approved": True,
        "decision": "allow",
        "reason": "within limits",
        "max_notional_quote": _price(rng),
    },
    "state_snapshot": lambda rng, _: {
        "state": "running",
        "regime": "neutral",
        "spread_pct": _amount(rng),
        "equity_quote": _price(rng),
    },
}


class FormA:
    """The flat record, as the worker writes it."""

    def __init__(self) -> None:
        self._encode = codec.Encoder(output_schema("audited"), _AUDITED_ID).encode

    def build(self, event: Judged) -> dict[str, Any]:
        return outputs.audited(event.raw, event.read, disposition="accepted", link=event.link)

    def encode(self, record: dict[str, Any]) -> bytes:
        return self._encode(record)

    def write(self, event: Judged) -> bytes:
        return self._encode(self.build(event))


class GeneratedA:
    """Form A's bytes from a function generated out of the schema: a prototype, no dict and no fastavro in between.

    It writes accepted events without findings whose texts are ASCII and shorter than 16 KiB, and raises ValueError for
    any other: there a real one would fall back to fastavro.
    """

    def __init__(self) -> None:
        framing = codec.HEADER.pack(codec.MAGIC, _AUDITED_ID).decode("latin-1")
        constant = dict.fromkeys(("derived_seq", "reasons", "reason_detail", "findings", "native"), "\x00")
        constant |= {"disposition": "\x10accepted", "core_version": _text(CORE_VERSION)}
        number = {"raw_partition": "raw.partition", "raw_offset": "raw.offset", "ingest_ts_utc": "raw.timestamp"}
        number |= {"ts_utc": "e['ts_utc']", "raw_schema_id": "read.schema_id"}
        local = {"link": "event.link", "payload": "payload_json(e, read.event_type)"}
        lines, texts, parts = [], [], ["{FRAMING}"]
        # `raw` is followed by `linked_by`, which is empty, and the sentinel.
        for field in output_schema("audited")["fields"]:
            name = field["name"]
            if name in ("raw", "linked_by", "_end"):
                continue
            if name in constant:
                parts.append(f"{{CONSTANT[{name!r}]}}")
            elif name in number:
                parts.append(f"{{z({number[name]})}}")
            elif field["type"] == "string":
                lines.append(f"  {name} = {local.get(name) or f'e[{name!r}]'} or ''")
                texts.append(name)
                parts.append(f"{{P[len({name})]}}{{{name}}}")
            else:
                lines.append(f"  {name} = e[{name!r}]")
                parts.append(f"{{ABSENT if {name} is None else PRESENT + z({name})}}")
        source = [
            "def write(event):",
            "  raw, read = event.raw, event.read",
            "  e = read.event",
            *lines,
            f"  if not ''.join(({', '.join(texts)})).isascii(): raise ValueError('not ASCII')",
            f'  before = f"{"".join(parts)}"',
            "  return b''.join((before.encode('latin-1'), zigzag(len(raw.value)), raw.value, END))",
        ]
        known: dict[str, Any] = {
            "FRAMING": framing,
            "CONSTANT": constant,
            "ABSENT": "\0",
            "PRESENT": "\2",
            "END": b"\x00" + _END,
            "P": [zigzag(length).decode("latin-1") for length in range(1 << 14)],
            "z": lambda value: zigzag(value).decode("latin-1"),
            "zigzag": zigzag,
            "payload_json": outputs.payload_json,
        }
        exec("\n".join(source), known)
        self.write: Callable[[Judged], bytes] = known["write"]


def _text(value: str) -> str:
    return (zigzag(len(value.encode())) + value.encode()).decode("latin-1")


class FormB:
    """Framing, length of the verdict, verdict, the original body as it came, sentinel."""

    def __init__(self) -> None:
        fields = [{**f} for f in _verdict_fields()]
        self._schema = fastavro.parse_schema({"type": "record", "name": "Verdict", "fields": fields})
        self._headers: dict[int, bytes] = {}

    def write(self, event: Judged) -> bytes:
        raw, read = event.raw, event.read
        assert read.event is not None
        verdict = {
            "disposition": "accepted",
            "raw_partition": raw.partition,
            "raw_offset": raw.offset,
            "derived_seq": 0,
            "reasons": (),
            "reason_detail": "",
            "link": event.link,
            "findings": (),
            "core_version": CORE_VERSION,
            "ingest_ts_utc": raw.timestamp,
            "raw_schema_id": read.schema_id,
            "linked_by": "",
            "chain": read.event["correlation_id"],
        }
        buffer = io.BytesIO()
        fastavro.schemaless_writer(buffer, self._schema, verdict)
        encoded = buffer.getvalue()
        header = self._headers.get(read.schema_id)
        if header is None:
            # The id under which the derived schema of this type would be registered.
            header = self._headers[read.schema_id] = codec.HEADER.pack(codec.MAGIC, 1_000 + read.schema_id)
        return b"".join((header, zigzag(len(encoded)), encoded, raw.value[_FRAMING:], _END))


@dataclass(frozen=True, slots=True)
class OnKafka:
    """Worker CPU microseconds per event, and bytes per record on Kafka."""

    form: str
    build_us: float
    encode_us: float
    lz4_us: float
    bytes_plain: float
    bytes_lz4: float

    @property
    def worker_us(self) -> float:
        return self.build_us + self.encode_us + self.lz4_us


def on_kafka(events: Sequence[Judged]) -> Sequence[OnKafka]:
    """Both forms of ``events``: what the worker pays for and what Kafka keeps."""
    a, b, generated = FormA(), FormB(), GeneratedA()
    records = [a.build(event) for event in events]
    spent: dict[str, list[float]] = defaultdict(list)
    for _ in range(WORKER_ROUNDS):
        spent["a.build"].append(_cpu_us(a.build, events))
        spent["a.encode"].append(_cpu_us(a.encode, records))
        spent["b.write"].append(_cpu_us(b.write, events))
        spent["generated.write"].append(_cpu_us(generated.write, events))
    best = {name: min(values) for name, values in spent.items()}
    flat, derived = [a.write(event) for event in events], [b.write(event) for event in events]
    if flat != [generated.write(event) for event in events]:
        raise RuntimeError("the generated encoder writes other bytes")
    keys = [b"%d:%d:0" % (event.raw.partition, event.raw.offset) for event in events]
    sizes = _sizes(keys, flat)
    return (
        OnKafka("A flat", best["a.build"], best["a.encode"], *sizes),
        OnKafka("A flat, generated encoder (prototype)", 0.0, best["generated.write"], *sizes),
        OnKafka("B derived", 0.0, best["b.write"], *_sizes(keys, derived)),
    )


def _cpu_us(function: Callable[[Any], object], items: Sequence[Any]) -> float:
    started = time.process_time()
    for item in items:
        function(item)
    return (time.process_time() - started) / len(items) * 1e6


def _sizes(keys: Sequence[bytes], values: Sequence[bytes]) -> tuple[float, float, float]:
    """CPU microseconds to compress a record, its bytes before and after; Kafka's own bytes around it left out."""
    batches: list[bytes] = []
    batch = bytearray()
    for key, value in zip(keys, values, strict=True):
        if len(batch) + len(key) + len(value) > KAFKA_BATCH:
            batches.append(bytes(batch))
            batch.clear()
        batch += key + value
    batches.append(bytes(batch))
    packed: list[bytes] = []
    rounds = []
    for _ in range(WORKER_ROUNDS):
        started = time.process_time()
        packed = [lz4.frame.compress(data) for data in batches]
        rounds.append((time.process_time() - started) / len(values) * 1e6)
    return min(rounds), sum(map(len, batches)) / len(values), sum(map(len, packed)) / len(values)


@dataclass(frozen=True, slots=True)
class Flush:
    """What one flush costs: CPU microseconds per row of sink and ClickHouse, milliseconds of wall, INSERTs, parts."""

    form: str
    types: int
    rows: int
    sink_us: float
    clickhouse_us: float
    wall_ms: float
    inserts: float
    parts: float

    @property
    def cpu_us(self) -> float:
        return self.sink_us + self.clickhouse_us


class _Lander:
    """Packs and inserts one form; consuming and the ledger, the same for both, are left out."""

    def __init__(self, client: Client, form: str, types: int, table: Table) -> None:
        self._client = client
        self.form = form
        self.types = types
        self.table = table
        self._layouts: dict[int, tuple[Container, str]] = {}

    def layout(self, key: int, schema: Schema) -> None:
        self._layouts[key] = (Container(schema), plan(self.table, schema))

    def insert(self, key: int, bodies: Sequence[bytes]) -> None:
        container, statement = self._layouts[key]
        options = {
            **_ONE_BLOCK,
            "insert_deduplication_token": str(uuid.uuid4()),
            "use_structure_from_insertion_table_in_table_functions": 0,
            "async_insert": 0,
            # For B's toJSONString: decimals as text, times as ISO-8601, as A has them.
            "output_format_json_quote_decimals": 1,
            "date_time_output_format": "iso",
        }
        self._client.raw_insert(
            statement, insert_block=memoryview(container.pack(bodies)), settings=options, fmt="Avro"
        )


class LandA(_Lander):
    """One container, one INSERT."""

    def __init__(self, client: Client, events: Sequence[Judged], types: int) -> None:
        super().__init__(client, "A flat", types, Table(f"bench_form_a{types}", "audited", {"event_id": "UUID"}, {}))
        self.layout(0, output_schema("audited"))
        write = FormA().write
        self._values = [write(event) for event in events]

    def flush(self, rows: int) -> None:
        self.insert(0, [value[_FRAMING:] for value in self._values[:rows]])


_EMPTY_WHERE_ABSENT = tuple(
    field["name"]
    for field in output_schema("audited")["fields"]
    if field["doc"].startswith("as in the envelope; empty")
)


class LandB(_Lander):
    """One container and one INSERT per event type; with ``types`` above ten each of the ten goes by several names."""

    def __init__(self, client: Client, events: Sequence[Judged], types: int) -> None:
        expressions = {name: f"ifNull({name}, '')" for name in _EMPTY_WHERE_ABSENT if _is_optional(name)}
        expressions |= {"correlation_id": "chain", "native": "''", "payload": "toJSONString(payload)"}
        table = Table(f"bench_form_b{types}", "audited", {"event_id": "UUID"}, expressions)
        super().__init__(client, "B derived", types, table)
        write = FormB().write
        self._values = [(number % types, write(event)) for number, event in enumerate(events)]
        self._headers: dict[int, bytes] = {}
        for number in range(types):
            read = events[number].read
            assert read.event_type is not None
            schema = derived_schema(read.event_type)
            self.layout(number, {**schema, "name": f"{schema['name']}{number}"})
            self._headers[number] = codec.HEADER.pack(codec.MAGIC, read.schema_id)

    def flush(self, rows: int) -> None:
        groups: dict[int, list[bytes]] = defaultdict(list)
        for number, value in self._values[:rows]:
            groups[number].append(self._with_original(number, value))
        for number, bodies in groups.items():
            self.insert(number, bodies)

    def _with_original(self, number: int, value: bytes) -> bytes:
        size, start = _read_size(value, _FRAMING)
        original = self._headers[number] + value[start + size : -len(_END)]
        return b"".join((zigzag(len(original)), original, value[_FRAMING:]))


def _is_optional(name: str) -> bool:
    field = next(f for f in event_types()["order_filled"].schema["fields"] if f["name"] == name)
    return isinstance(field["type"], list)


def _read_size(value: bytes, at: int) -> tuple[int, int]:
    """The Avro long at ``at``, and where it ends."""
    number = shift = 0
    while True:
        byte = value[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number >> 1, at
        shift += 7


def measure(clickhouse: ClickHouse, lander: LandA | LandB, rows: int) -> Flush:
    """Flushes of ``rows`` into an empty table, one after the other; the merges they cause are counted in."""
    create_like_events(clickhouse.store, lander.table.full_name)
    flushes = max(FLUSHES[rows] // 4, 2) if lander.types == CATALOGUE_TO_COME else FLUSHES[rows]
    lander.flush(rows)
    clickhouse.settle()
    parts, inserts, server = _parts(clickhouse, lander.table), clickhouse.inserts(), clickhouse.cpu_seconds()
    walls, own = [], 0.0
    for _ in range(flushes):
        started, cpu = time.monotonic(), time.process_time()
        lander.flush(rows)
        own += time.process_time() - cpu
        walls.append(time.monotonic() - started)
    clickhouse.settle()
    landed = flushes * rows
    return Flush(
        form=lander.form,
        types=lander.types,
        rows=rows,
        sink_us=own / landed * 1e6,
        clickhouse_us=(clickhouse.cpu_seconds() - server) / landed * 1e6,
        wall_ms=sorted(walls)[len(walls) // 2] * 1e3,
        inserts=(clickhouse.inserts() - inserts) / flushes,
        parts=(_parts(clickhouse, lander.table) - parts) / flushes,
    )


def _parts(clickhouse: ClickHouse, table: Table) -> int:
    """Parts ever written to ``table``: each INSERT's part takes the next block number, merged or not."""
    found = clickhouse.store.query(
        "SELECT max(max_block_number) FROM system.parts WHERE database || '.' || table = {name:String}",
        {"name": table.full_name},
    )
    return int(found[0][0])


def _check(clickhouse: ClickHouse, a: Table, b: Table) -> None:
    """Both tables hold the same; payloads are compared without the nulls that B names."""
    sums = [
        clickhouse.store.query(f"SELECT count(), sum(cityHash64(* EXCEPT payload)) FROM {table.full_name}")[0]
        for table in (a, b)
    ]
    payloads = [
        [
            {key: value for key, value in json.loads(row[0]).items() if value is not None}
            for row in clickhouse.store.query(
                f"SELECT payload FROM {table.full_name} ORDER BY raw_partition, raw_offset LIMIT 2000"
            )
        ]
        for table in (a, b)
    ]
    if sums[0] != sums[1] or payloads[0] != payloads[1]:
        different = next((pair for pair in zip(*payloads, strict=True) if pair[0] != pair[1]), None)
        raise RuntimeError(f"the two forms store different rows: {sums}, {different}")


@dataclass(frozen=True, slots=True)
class Forms:
    """Everything measured."""

    kafka: Sequence[OnKafka]
    flushes: Sequence[Flush]


def run() -> Forms:
    """Measure both forms; ClickHouse is the embedded engine behind its HTTP protocol."""
    ten = list(_PAYLOADS)
    events, fills = judged(EVENTS, ten), judged(EVENTS, ["order_filled"])
    kafka = on_kafka(events)
    with stack.running("registry", "clickhouse") as environment:
        clickhouse = ClickHouse(environment)
        migrate(clickhouse.store)
        url = urlsplit(environment[settings.CLICKHOUSE_URL])
        client = clickhouse_connect.get_client(host=url.hostname, port=url.port, autogenerate_session_id=False)
        landers: list[LandA | LandB] = [
            LandA(client, events, len(ten)),
            LandB(client, events, len(ten)),
            LandB(client, events, CATALOGUE_TO_COME),
        ]
        one_type: list[LandA | LandB] = [LandA(client, fills, 1), LandB(client, fills, 1)]
        for lander in (*landers, *one_type):
            create_like_events(clickhouse.store, lander.table.full_name)
            lander.flush(2_000)
        _check(clickhouse, landers[0].table, landers[1].table)
        _check(clickhouse, landers[0].table, landers[2].table)
        _check(clickhouse, one_type[0].table, one_type[1].table)
        wanted = [(lander, rows) for rows in FLUSHES for lander in landers]
        # Every row of one type, one INSERT in both forms: what a row costs, apart from the number of INSERTs.
        wanted += [(lander, max(FLUSHES)) for lander in one_type]
        flushes = [
            min((measure(clickhouse, lander, rows) for _ in range(SINK_ROUNDS)), key=lambda flush: flush.cpu_us)
            for lander, rows in wanted
        ]
        client.close()
    return Forms(kafka, flushes)
