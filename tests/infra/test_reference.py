"""The reference follows from the catalogue, whole."""

from __future__ import annotations

import json
import re
from pathlib import Path

import fastavro
import pytest
from click.testing import CliRunner

from tradetape.infra import reference
from tradetape.infra.cli.main import tradetape
from tradetape.processors.findings import CATALOGUE
from tradetape.producers.adapters import mapping
from tradetape.schemas import rules, topics
from tradetape.schemas.catalogue import OUTPUTS, event_types
from tradetape.sinks import queries


@pytest.mark.req("S2-06", "S1-08")
def test_every_event_type_and_every_key_is_in_the_reference() -> None:
    page = reference.pages()["events.md"]
    for event_type in event_types().values():
        section = page.partition(f"### {event_type.name}\n")[2].partition("\n### ")[0]
        assert section, event_type.name
        for field in event_type.payload_fields:
            assert f"| `{field['name']}` | {'●' if field['name'] in event_type.required else ''} |" in section
    assert "### Volatility" in page


@pytest.mark.req("S3-10")
def test_every_native_type_is_in_the_mapping_table() -> None:
    page = reference.pages()["native-types.md"]
    for system in reference.systems():
        section = page.partition(f"## {system}\n")[2].partition("\n## ")[0]
        for name, rule in mapping.rules(system).items():
            assert f"| `{name}` | `{rule.event}` |" in section
            assert {rule.event, *rule.by_outcome.values()} <= event_types().keys()


def test_every_code_is_explained() -> None:
    findings, _, reasons = reference.pages()["findings.md"].partition("# Reasons for rejection")
    for code, kind in CATALOGUE.items():
        promises = ", ".join(kind.requirements)
        row = f"| `{code}` | {kind.severity} | {kind.subject} | {kind.meaning} | {kind.example} | {promises} |"
        assert row in findings.splitlines()
    for code, reason in rules.REASONS.items():
        row = f"| `{code}` | {reason.meaning} | {reason.example} | {', '.join(reason.requirements)} |"
        assert row in reasons.splitlines()


@pytest.mark.req("S0-08", "S1-08")
def test_every_named_query_and_every_parameter_is_in_the_reference() -> None:
    page = reference.pages()["queries.md"]
    for query in queries.listing().values():
        section = page.partition(f"## {query.name}\n")[2].partition("\n## ")[0]
        assert query.purpose in section
        assert query.notes in section
        for param in query.params:
            assert f"| `{param.name}` | {'●' if param.default is None else ''} | {param.type} |" in section
            assert all(f"`{value}`" in section for value in param.choices)


def test_the_guide_names_queries_that_there_are() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "audit-queries.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| .* \| (`.*) \|$", guide, re.MULTILINE)
    named = [name for cell in table for name in re.findall(r"`(\w+)`", cell.partition(" with ")[0])]
    named += re.findall(r"^tradetape query (\w+)", guide, re.MULTILINE)
    assert len(named) > 30
    assert set(named) <= queries.listing().keys()


@pytest.mark.req("S1-08")
def test_the_asyncapi_file_holds_the_schemas_that_are_registered() -> None:
    document = json.loads(reference.pages()["asyncapi.json"])
    assert document["asyncapi"].startswith("3.")
    assert set(document["channels"]) == {topics.EVENTS, *map(topics.of_output, OUTPUTS)}
    messages = document["components"]["messages"]
    for channel in document["channels"].values():
        for name, message in channel["messages"].items():
            assert message["$ref"] == f"#/components/messages/{name}"
            fastavro.parse_schema(messages[name]["payload"]["schema"])
    for operation in document["operations"].values():
        assert operation["channel"]["$ref"].removeprefix("#/channels/") in document["channels"]
    for name, event_type in event_types().items():
        assert messages[name]["payload"]["schema"] == event_type.schema


def test_the_command_writes_all_pages(tmp_path: Path) -> None:
    done = CliRunner().invoke(tradetape, ["schemas", "docs", str(tmp_path / "reference")])
    assert done.exit_code == 0, done.output
    assert {path.name for path in (tmp_path / "reference").iterdir()} == set(reference.pages())
