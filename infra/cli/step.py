"""``tradetape replay --step``: one aggregate event by event, for a terminal or for programs (S1-08)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from tradetape.infra.cli.folding import open_record


def show(home: Path, name: str, output: str) -> None:
    """Print the events of the order, position, chain or instance ``name`` with what each changed."""
    from tradetape.sinks import steps
    from tradetape.sinks.results import printable

    store, schemas = open_record(home)
    kind, walked = steps.walk(store, schemas, name)
    if output == "table":
        click.echo(f"{kind} {printable(name)}")
    for step in walked:
        for line in [json.dumps(step)] if output == "json" else map(printable, _lines(step)):
            click.echo(line)


def _lines(step: Mapping[str, Any]) -> Iterator[str]:
    place = f"{step['raw_partition']}:{step['raw_offset']}"
    about = " ".join(filter(None, (step["instance_name"], step["trading_pair"], step["order_id"])))
    yield f"{step['ts_utc'] or step['ingest_ts_utc']}  {step['event_type']}  {about}"
    yield f"  {place}  {step['event_id']}  {step['disposition']}  {step['link']}".rstrip()
    for found in step["findings"]:
        yield f"  ! {found}"
    for change in step["changes"]:
        yield f"  {change['field']:<32} {_said(change['before'])} → {_said(change['after'])}"
    if not step["changes"]:
        yield "  changes nothing"


def _said(value: Any) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
