"""The HTTP API under generated requests: it answers what its OpenAPI description says, whatever it is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.schemas import OpenApiSchema
from tests.integration import api
from tests.integration.api import TOKEN
from tests.integration.recorded import recorded

from tradetape.infra.api import contract

pytestmark = pytest.mark.integration

EXAMPLES, EXAMPLES_OF_QUERY = 15, 1
"""Requests of each kind for an operation; the named queries are many, and described and read in one way."""

NOTHING_WRONG = ("/v1/queries", "/v1/health")
"""What takes no parameter, so that none can be wrong."""

SETTINGS = {
    "auth": {"openapi": {contract.TOKEN: {"bearer": TOKEN}}},
    "generation": {"with-security-parameters": False},
}
"""The token comes along, but where a check leaves it out: so requests get as far as their parameters."""


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenApiSchema]:
    config = schemathesis.Config.from_dict(SETTINGS)
    with api.stored(tmp_path_factory.mktemp("fuzz") / "clickhouse", recorded()) as running:
        yield schemathesis.openapi.from_asgi("/openapi.json", api.app(running.url), config=config)


@pytest.mark.req("S2-05", "P-08")
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_every_operation_answers_as_described(described: OpenApiSchema, mode: GenerationMode) -> None:
    answered: Counter[int] = Counter()
    for found in described.get_all_operations():
        operation = found.ok()
        is_query = operation.path.startswith("/v1/queries/")
        if mode is GenerationMode.NEGATIVE and operation.path in NOTHING_WRONG:
            continue

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=EXAMPLES_OF_QUERY if is_query else EXAMPLES,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
        )
        def ask(case: schemathesis.Case) -> None:
            answered[case.call_and_validate().status_code] += 1

        ask()
    assert answered[200 if mode is GenerationMode.POSITIVE else 422] > 50, answered
