"""The peer of the sink: confluent-kafka, fastavro's decoder, clickhouse-connect's ``insert`` of row lists.

It is given what makes it cheaper: times stay integers, the types of the columns are asked for once, the body goes out
uncompressed, and no row is routed, compared with the store or checked for holes.
"""

from __future__ import annotations

import io
import os
import sys
import time
import uuid
from urllib.parse import urlsplit

import clickhouse_connect
import fastavro
from confluent_kafka import Consumer, Message

from tradetape.schemas import codec
from tradetape.schemas.catalogue import output_schema
from tradetape.sinks.backlog import LINGER_SECONDS
from tradetape.sinks.batch import MAX_ROWS
from tradetape.sinks.store import _ONE_BLOCK
from tradetape.sinks.tables import SENTINEL
from tradetape.sinks.writer import POLL_RECORDS, POLL_SECONDS, consumer_config

GROUP = "bench-decode-and-insert"
TOPIC = "bench.audited"
TABLE = "tradetape.bench_events"


def main() -> None:
    """Land ``bench.audited`` in ``tradetape.bench_events``, until killed; batches are cut as the sink cuts them."""
    url = urlsplit(os.environ["TRADETAPE_CLICKHOUSE_URL"])
    client = clickhouse_connect.get_client(
        host=url.hostname, port=url.port or 8123, autogenerate_session_id=False, compress=False
    )
    declared = output_schema("audited")
    names = [field["name"] for field in declared["fields"] if field["name"] != SENTINEL]
    types = client.create_insert_context(TABLE, names).column_types
    schema = fastavro.parse_schema(codec.strip_times(declared))
    consumer = Consumer({**consumer_config(os.environ["TRADETAPE_BOOTSTRAP_SERVERS"]), "group.id": GROUP})
    consumer.subscribe([TOPIC])
    pending: dict[int, list[Message]] = {}
    since: dict[int, float] = {}

    def land(messages: list[Message]) -> None:
        rows = []
        for message in messages:
            body = io.BytesIO(message.value())
            body.seek(codec.HEADER.size)
            record = fastavro.schemaless_reader(body, schema)
            rows.append([record[name] for name in names])
        settings = {**_ONE_BLOCK, "insert_deduplication_token": str(uuid.uuid4()), "async_insert": 0}
        client.insert(TABLE, rows, column_names=names, column_types=types, settings=settings)
        consumer.commit(message=messages[-1], asynchronous=False)

    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        now = time.monotonic()
        for message in consumer.consume(POLL_RECORDS, POLL_SECONDS):
            since.setdefault(message.partition(), now)
            pending.setdefault(message.partition(), []).append(message)
        for partition, messages in list(pending.items()):
            while len(messages) >= MAX_ROWS or (messages and now - since[partition] >= LINGER_SECONDS):
                land(messages[:MAX_ROWS])
                del messages[:MAX_ROWS]
            if not messages:
                since.pop(partition, None)


if __name__ == "__main__":
    main()
