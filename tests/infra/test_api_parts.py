"""The parts of the HTTP API that are pure: cursors, moments, forms, scopes, parameters, tokens."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime, timedelta, timezone
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradetape.infra import completeness
from tradetape.infra.api import cursor, forms, health, moments, named, state
from tradetape.infra.api.clients import TOKENS, Client, Clients
from tradetape.infra.api.cursor import Place
from tradetape.infra.api.forms import CSV, JSON, NDJSON
from tradetape.infra.api.problems import Problem
from tradetape.infra.api.scope import FLEET, Scope, is_of_fleet
from tradetape.infra.api.state import StateAt
from tradetape.schemas import times
from tradetape.schemas.errors import TradetapeError
from tradetape.sinks import queries, results
from tradetape.sinks.queries import NamedQuery, Param
from tradetape.sinks.store import Store
from tradetape.sinks.travel import NothingOnRecord

A, B = "a-token-of-sixteen-or-more", "b-token-of-sixteen-or-more"
MOMENTS = st.integers(times.EARLIEST, times.LATEST)


@pytest.mark.req("S2-05")
@given(MOMENTS, st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1))
def test_a_cursor_says_its_place(ts_utc: int, partition: int, offset: int) -> None:
    place = Place(ts_utc, partition, offset)
    written = cursor.write(place)
    assert cursor.read(written) == place
    assert not set(written) & set("+/=&")


@given(st.text(max_size=40) | st.from_regex(r"e[A-Za-z0-9_-]{28}", fullmatch=True))
def test_any_other_text_is_no_cursor_or_a_place(text: str) -> None:
    try:
        found = cursor.read(text)
    except ValueError as error:
        assert "no cursor" in str(error)
        return
    assert times.EARLIEST <= found.ts_utc <= times.LATEST


@given(st.datetimes(min_value=datetime(2000, 1, 2), max_value=datetime(2099, 12, 30)), st.integers(-1439, 1439))
def test_a_moment_is_read_with_its_offset(naive: datetime, minutes: int) -> None:
    there = naive.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert moments.read(there.isoformat()) == times.to_micros(there)


def test_a_date_is_its_beginning_and_bounds_are_kept() -> None:
    assert moments.read("2026-11-20") == times.to_micros(datetime(2026, 11, 20, tzinfo=UTC))
    assert moments.read("0001-01-01T00:00:00+23:59") == times.EARLIEST
    assert moments.read("9999-12-31T23:59:59-23:59") == times.LATEST


@pytest.mark.parametrize("text", ["", "yesterday", "2026-11-20T10:00:00", "2026-13-01", "12345678901234", None])
def test_what_is_no_moment_is_told(text: str | None) -> None:
    with pytest.raises(ValueError, match=r"ISO-8601|offset|text"):
        moments.read(text)


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("application/x-ndjson", NDJSON),
        ("text/*", CSV),
        ("text/csv;q=0.5, application/x-ndjson;q=0.9", NDJSON),
        ("application/json;q=0, */*", NDJSON),
        ("APPLICATION/JSON ; q=1.0", JSON),
        ("text/html,application/xhtml+xml,*/*;q=0.8", JSON),
        ("text/html", None),
        ("application/json;q=0", None),
        ("text/csv;q=much", None),
    ],
)
def test_accept_chooses_a_form(accept: str, chosen: str | None) -> None:
    assert forms.choose(accept, (JSON, NDJSON, CSV)) == chosen


@given(st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=3)), max_size=6), st.data())
def test_rows_are_the_same_in_every_form_however_they_come(rows: list[dict[str, str]], data: st.DataObject) -> None:
    text = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    whole = b"".join(forms.document("rows", results.batches(pieces), query="q", next=None))
    assert json.loads(whole) == {"query": "q", "next": None, "rows": rows}
    assert b"".join(forms.lines(results.batches(pieces))) == text


@pytest.mark.req("S2-05")
def test_a_payload_is_told_to_the_digit() -> None:
    payload = '{"n": 123456789012345678901234567890, "x": 0.10000000000000000000000000001, "y": 1E+2}'
    row = {"sequence": 2**63 - 1, "payload": payload}
    ((told,),) = forms.with_payloads([[json.dumps(row).encode()]])
    assert told == b'{"sequence":9223372036854775807,"payload":' + payload.encode() + b"}"


NAMES = st.text(st.sampled_from("ab%_\\*?'-"), max_size=4)


@given(st.lists(NAMES.filter(bool), min_size=1, max_size=3), NAMES)
def test_a_scope_means_the_same_in_sql(patterns: list[str], name: str) -> None:
    scope = Scope(tuple(patterns))
    assert scope.allows(name) == any(fnmatchcase(name, pattern) for pattern in patterns)
    assert scope.allows(name) == eval_condition(scope.condition(), name)


def eval_condition(condition: str, name: str) -> bool:
    """The condition as ClickHouse reads it: LIKE and IN over literals."""
    found = False
    for alternative in condition.split(" OR instance_name "):
        operator, _, literals = alternative.removeprefix("instance_name ").partition(" ")
        if operator == "IN":
            found |= name in [unquoted(literal) for literal in literals[1:-1].split(", ")]
        else:
            found |= like(unquoted(literals), name)
    return found


def unquoted(literal: str) -> str:
    assert literal[0] == literal[-1] == "'"
    text, inner = "", iter(literal[1:-1])
    for character in inner:
        assert character != "'"
        text += next(inner) if character == "\\" else character
    return text


def like(pattern: str, name: str) -> bool:
    if not pattern:
        return not name
    if pattern[0] == "%":
        return any(like(pattern[1:], name[at:]) for at in range(len(name) + 1))
    if pattern[0] == "\\":
        return name[:1] == pattern[1] and like(pattern[2:], name[1:])
    return bool(name) and pattern[0] in ("_", name[0]) and like(pattern[1:], name[1:])


def test_a_query_of_more_than_bots_rows_is_of_the_fleet() -> None:
    found = {name for name, query in queries.listing().items() if is_of_fleet(query)}
    assert found == FLEET | {"completeness", "immutability", "portfolio_figures"}
    unknown = NamedQuery("new", "New.", "", (), "SELECT 1 FROM tradetape.ingest_ledger")
    assert is_of_fleet(unknown), "a table that no filter is known for is not for limited tokens"
    assert Scope().may_ask(unknown)
    assert not Scope(("bot1",)).may_ask(unknown)


QUERY = NamedQuery(
    "sample",
    "For tests.",
    "",
    (
        Param("id", "String", None),
        Param("n", "UInt32", "50"),
        Param("after", "Int64", "-1"),
        Param("since", "String", "2000-01-01"),
        Param("status", "String", "open", ("open", "all")),
    ),
    "SELECT 1",
)


def test_parameters_are_bound_by_type() -> None:
    given = [("id", "x"), ("n", "007"), ("after", "-9223372036854775808"), ("since", "2026-01-01T01:00:00+01:00")]
    bound, archived = named.bind(QUERY, [*given, ("archived", "True")])
    assert bound == {
        "id": "x",
        "n": "7",
        "after": "-9223372036854775808",
        "since": "2026-01-01T00:00:00.000000Z",
    }
    assert archived
    assert named.bind(QUERY, [("id", "")]) == ({"id": ""}, False)


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ([], "id: is missing"),
        ([("id", "a"), ("id", "b")], "id: is given twice"),
        ([("id", "a"), ("m", "b")], "m: is no parameter of this query; it takes id, n, after, since, status, archived"),
        ([("id", "a"), ("n", "-1")], "n: is no whole number from 0 to 4294967295"),
        ([("id", "a"), ("n", "4294967296")], "n: is no whole number"),
        ([("id", "a"), ("n", "1.0")], "n: is no whole number"),
        ([("id", "a"), ("n", "٣")], "n: is no whole number"),
        ([("id", "a"), ("n", "9" * 5000)], "n: is no whole number"),
        ([("id", "a"), ("since", "soon")], "since: 'soon' is no ISO-8601"),
        ([("id", "a"), ("status", "shut")], "status: may be open, all"),
        ([("id", "a" * 1001)], "id: is longer than 1000"),
        ([("id", "a"), ("archived", "yes")], "archived: is true or false"),
        ([("id", "a"), ("archived", "false"), ("archived", "true")], "archived: is given twice"),
    ],
)
def test_every_parameter_that_is_wrong_is_told(given: list[tuple[str, str]], wrong: str) -> None:
    with pytest.raises(Problem) as raised:
        named.bind(QUERY, given)
    assert raised.value.status == 422
    assert wrong in raised.value.document["detail"]
    assert raised.value.document["hint"]


def test_an_unknown_query_names_those_that_are_spelt_alike() -> None:
    with pytest.raises(Problem) as raised:
        named.find("why_exits")
    assert raised.value.status == 404
    assert "did you mean why_exit?" in raised.value.document["hint"]


def test_every_default_is_a_value_of_its_type() -> None:
    for query in queries.listing().values():
        required = [(param.name, "2026-01-01" if param.name == "since" else "x") for param in query.params]
        told = {param.name: named.schema(param).get("default") for param in query.params}
        defaults = [(param.name, param.default) for param in query.params if param.default is not None]
        bound, _ = named.bind(query, [*defaults, *(pair for pair in required if told[pair[0]] is None)])
        assert set(bound) == {param.name for param in query.params}


class Asked(Store):
    """Stands in for a store: has the last offset of a partition and nothing else, and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__("http://nowhere")
        self.asked: list[str] = []

    def query(self, sql: str, *_: Any, **__: Any) -> list[tuple[Any, ...]]:
        self.asked.append(sql)
        return [(0, (6, 0))] if "max(position)" in sql else []


def test_health_does_not_wait_for_what_is_landing(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Asked()
    monkeypatch.setattr(completeness, "kafka_offsets", lambda _: {0: (0, 10)})
    assert health.lag(store, "nowhere") == [{"raw_partition": 0, "kafka_end": 10, "last_stored": 6, "behind": 3}]
    assert len(store.asked) == 1


def test_orders_are_looked_for_in_the_same_place_whoever_asks() -> None:
    def asked(scope: Scope) -> list[str]:
        store = Asked()
        with pytest.raises(NothingOnRecord):
            state.order("o-1", StateAt(), scope)(store, lambda _: None)
        return store.asked

    assert asked(Scope(("bot1",))) == asked(Scope())


@pytest.mark.req("S2-05")
def test_a_token_names_its_client_and_its_bots(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    path.write_text(f'[all]\ntoken = "{A}"\n[desk]\ntoken = ["{B}"]\ninstances = ["bot1", "desk-*"]\n')
    found = TOKENS.load(path, {TOKENS.variable: f"more={A}{B}"})
    assert found.authenticate(f"Bearer {A}") == Client("all")
    assert found.authenticate(f"Bearer {B}") == Client("desk", Scope(("bot1", "desk-*")))
    assert found.authenticate(f"Bearer {A}{B}") == Client("more")
    assert found.authenticate(f"Bearer {A}x") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no client may read"),
        (f"[c]\ntoken = '{A}'\ninstances = []", "instances is empty"),
        (f"[c]\ntoken = '{A}'\ninstances = ['bot[12]']", r"patterns with \* and \?"),
        (f"[c]\ntoken = '{A}'\nlegacy = true", "unknown key legacy"),
    ],
)
def test_a_tokens_file_that_is_wrong_is_told(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "tokens.toml"
    path.write_text(text)
    with pytest.raises(TradetapeError, match=said) as raised:
        TOKENS.load(path, {})
    assert "query-over-http.md" in raised.value.hint


def test_the_first_start_makes_a_token_for_the_owners_eyes(tmp_path: Path) -> None:
    path = tmp_path / "api" / "tokens.toml"
    assert TOKENS.generate(path, {})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    token = path.read_text().split('token = "')[1].split('"')[0]
    assert TOKENS.load(path, {}).authenticate(f"Bearer {token}") == Client("default")
    assert not TOKENS.generate(path, {})


def described() -> dict[str, Any]:
    from tradetape.infra.api.app import create_app
    from tradetape.infra.api.reader import Reader

    app = create_app(Clients([]), lambda: Reader("http://127.0.0.1:1"), lambda _: None)
    return app.openapi()


@pytest.mark.req("S2-05")
def test_openapi_describes_every_query_with_its_types() -> None:
    found = described()
    for name, query in queries.listing().items():
        operation = found["paths"][f"/v1/queries/{name}"]["get"]
        told = {parameter["name"]: parameter for parameter in operation["parameters"]}
        assert set(told) == {param.name for param in query.params} | {"archived"}
        for param in query.params:
            assert told[param.name]["required"] is (param.default is None)
            kind = "integer" if param.type in ("UInt32", "Int64") else "string"
            assert told[param.name]["schema"].get("type", "string") == kind
    assert {f"/v1/{path}" for path in ("events", "chain/{id}", "risk", "queries", "health")} <= set(found["paths"])
    assert found["components"]["securitySchemes"]["token"]["scheme"] == "bearer"


def test_openapi_refers_to_nothing_that_is_not_there() -> None:
    found = described()
    text = json.dumps(found)
    for part in text.split('"$ref": "#/components/schemas/')[1:]:
        assert part.partition('"')[0] in found["components"]["schemas"]
    for path, operations in found["paths"].items():
        for operation in operations.values():
            public = path == "/v1/health"
            assert operation["security"] == ([{}, {"token": []}] if public else [{"token": []}])
            assert "401" in operation["responses"]
