"""What clusters out there hold stays usable: applied migrations, and the output schemas that were registered (P-05).

``tests/released`` has the output schemas as they were first on clusters: each later contract must go beside them.
"""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest
from tests.integration.conftest import Tradetape

from tradetape.infra import settings
from tradetape.schemas.catalogue import OUTPUTS, output_schema
from tradetape.schemas.registry import Registry, Subject

pytestmark = [pytest.mark.integration, pytest.mark.req("P-05")]

RELEASED = {
    schema["name"]: schema
    for path in (Path(__file__).parents[1] / "released").glob("*.avsc")
    for schema in [json.loads(path.read_text(encoding="utf-8"))]
}
CURRENT = {schema["name"]: schema for schema in map(output_schema, OUTPUTS)}


def test_every_output_was_released() -> None:
    assert RELEASED.keys() == CURRENT.keys()


@pytest.mark.parametrize("name", sorted(RELEASED))
def test_an_output_goes_beside_what_was_released(name: str, stack: Tradetape) -> None:
    registry = Registry(settings.load(stack.home).registry_url)
    subject = f"released-{name}-{uuid.uuid4()}"
    assert registry.register(Subject(subject, RELEASED[name])).state == "new"
    found = registry.register(Subject(subject, CURRENT[name]))
    assert found.state in ("same", "changed"), found.problems
