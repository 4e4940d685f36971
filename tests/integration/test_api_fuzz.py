"""The HTTP API under generated requests: it answers what its OpenAPI description says, whatever it is asked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import settings
from schemathesis.specs.openapi.schemas import OpenApiSchema
from tests.folding import SCHEMAS
from tests.integration import api
from tests.integration.api import TOKEN
from tests.integration.recorded import recorded

from tradetape.infra.api import contract
from tradetape.infra.api.app import create_app
from tradetape.infra.api.reader import Reader

pytestmark = pytest.mark.integration

EXAMPLES = 5
"""Fuzzed requests an operation, besides those at the bounds of its parameters."""

QUERIES = "tail|findings"
"""Named queries with every kind of parameter: all are read and described the same way."""


SETTINGS = schemathesis.Config.from_dict(
    {
        "generation": {"deterministic": True, "no-shrink": True},
        "auth": {"openapi": {contract.TOKEN: {"bearer": TOKEN}}},
    }
)


class Place:
    """Where the store is, once it is there: operations are known before."""

    url = ""


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with api.stored(tmp_path_factory.mktemp("fuzz") / "clickhouse", recorded()) as running:
        Place.url = running.url
        yield


def operations() -> OpenApiSchema:
    app = create_app(api.clients(), lambda: Reader(Place.url), SCHEMAS.get)
    described = schemathesis.openapi.from_dict(app.openapi(), config=SETTINGS)
    described.app = app
    return described.exclude(path_regex=rf"^/v1/queries/(?!({QUERIES})$)")


@pytest.mark.req("S2-05", "P-08")
@operations().parametrize()
@settings(max_examples=EXAMPLES, derandomize=True, database=None)
def test_an_operation_answers_as_described(case: schemathesis.Case) -> None:
    case.call_and_validate()
