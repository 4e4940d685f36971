"""The HTTP interface with a stand-in for Kafka and the spool: what is answered to whom."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.producers.gateways import DESK_TOKEN, EVENT_ID, SLOW_TOKEN, TOKEN, Shelf, clients, event, text

from tradetape.producers.gateway import body
from tradetape.producers.gateway.app import create_app
from tradetape.schemas import rules
from tradetape.schemas.catalogue import event_types

JSON = {"Content-Type": "application/json"}
NDJSON = {"Content-Type": "application/x-ndjson"}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def http(shelf: Shelf, clock: Clock) -> Iterator[TestClient]:
    app = create_app(clients(), lambda: shelf, shelf.health, clock=clock, read_seconds=5)  # type: ignore[arg-type, return-value]
    with TestClient(app, headers={"Authorization": f"Bearer {TOKEN}", **JSON}, raise_server_exceptions=False) as found:
        yield found
    assert shelf.calls == ["start", "close"]


def problem(response: Any, status: int, name: str) -> dict[str, Any]:
    """The problem details of ``response``, which must be whole."""
    found: dict[str, Any] = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert (response.status_code, found["status"], found["type"]) == (status, status, f"urn:tradetape:gateway:{name}")
    assert found["title"] and found["detail"] and found["hint"]
    return found


@pytest.mark.req("S3-01", "S3-05")
def test_one_event_is_taken_with_its_exact_bytes(http: TestClient, shelf: Shelf) -> None:
    sent = json.dumps(event(), indent=2).encode()
    answer = http.post("/v1/events", content=b"\n" + sent + b"\n")
    assert answer.status_code == 202
    assert answer.json() == {
        "accepted": 1,
        "evidence": 0,
        "results": [{"event_id": EVENT_ID, "status": "accepted", "reasons": []}],
    }
    assert [taken.native for taken in shelf.kept] == [sent]


@pytest.mark.req("S3-05")
@pytest.mark.parametrize("as_lines", [False, True])
def test_a_batch_is_answered_event_by_event_in_order(http: TestClient, shelf: Shelf, as_lines: bool) -> None:
    parts = [json.dumps(event()), "5", json.dumps(event(ts_utc="now")), json.dumps(event(event_id="native-7"))]
    content, headers = ("\n".join(parts), NDJSON) if as_lines else (f"[{','.join(parts)}]", JSON)
    answer = http.post("/v1/events", content=content, headers=headers).json()
    assert (answer["accepted"], answer["evidence"]) == (2, 2)
    assert [result["status"] for result in answer["results"]] == ["accepted", "evidence", "evidence", "accepted"]
    codes = [[reason["code"] for reason in result["reasons"]] for result in answer["results"]]
    assert codes == [[], ["not_an_object"], ["ts_unparseable"], []]
    assert [taken.native for taken in shelf.kept] == [part.encode() for part in parts]
    assert [taken.event["event_id"] for taken in shelf.kept] == [r["event_id"] for r in answer["results"]]
    assert shelf.kept[3].event["native_event_id"] == "native-7"


def test_a_broken_line_is_evidence_and_the_others_are_events(http: TestClient, shelf: Shelf) -> None:
    sent = [json.dumps(event()).encode(), b'{"event_id": ', b"\xff\xfe", json.dumps(event()).encode()]
    answer = http.post("/v1/events", content=b"\n".join(sent), headers=NDJSON)
    assert answer.status_code == 202
    assert [result["status"] for result in answer.json()["results"]] == ["accepted", "evidence", "evidence", "accepted"]
    assert [taken.native for taken in shelf.kept] == sent


def test_an_empty_array_is_taken(http: TestClient) -> None:
    assert http.post("/v1/events", content="[]").json() == {"accepted": 0, "evidence": 0, "results": []}


@pytest.mark.req("S3-05", "P-08")
@pytest.mark.parametrize("sent", [b'[{"a": 1},', b"not json", b"\xff\xfe", b"[" * 50_000, text({}) + b"x"])
def test_a_body_that_is_not_json_is_400_and_its_bytes_are_evidence(http: TestClient, shelf: Shelf, sent: bytes) -> None:
    found = problem(http.post("/v1/events", content=sent), 400, "malformed")
    (kept,) = shelf.kept
    assert (kept.native, kept.event["native"], kept.event["event_type"]) == (sent, sent, "unmapped_record")
    assert found["evidence"] == kept.event["event_id"]


def test_an_empty_body_is_400_and_nothing_is_kept(http: TestClient, shelf: Shelf) -> None:
    assert problem(http.post("/v1/events", content=b""), 400, "malformed")["evidence"] is None
    assert shelf.kept == []


@pytest.mark.parametrize("header", ["", "Bearer wrong-token-of-the-tests", f"Basic {TOKEN}", TOKEN])
def test_without_a_known_token_it_is_401(http: TestClient, shelf: Shelf, header: str) -> None:
    answer = http.post("/v1/events", content=text({}), headers={"Authorization": header})
    problem(answer, 401, "unauthorized")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert shelf.kept == []


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ([{}, {"instance_name": "desk-1"}], 202),
        ([{}, {"instance_name": "bot2"}], 403),
        ([{}, {"instance_name": "bot2", "ts_utc": "never"}], 403),
    ],
)
def test_a_client_writes_for_its_own_bots_only(
    http: TestClient, shelf: Shelf, changes: list[dict[str, Any]], status: int
) -> None:
    headers = {"Authorization": f"Bearer {DESK_TOKEN}"}
    answer = http.post("/v1/events", content=text(*changes), headers=headers)
    if status == 403:
        assert f"event {len(changes)}" in problem(answer, 403, "forbidden")["detail"]
    assert (answer.status_code, len(shelf.kept)) == (status, 2 if status == 202 else 0)


def test_evidence_that_names_no_bot_needs_no_right(http: TestClient, shelf: Shelf) -> None:
    headers = {"Authorization": f"Bearer {DESK_TOKEN}"}
    assert http.post("/v1/events", content="[5]", headers=headers).status_code == 202
    assert shelf.kept[0].event["source_id"] == "http:desk"


@pytest.mark.req("P-08")
def test_too_large_is_413_and_nothing_is_taken(http: TestClient, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "LARGEST_BODY", 5_000)
    problem(http.post("/v1/events", content=b"[" + b" " * 5_000 + b"]"), 413, "too-large")
    in_pieces = iter([b"[" + b" " * 2_500] * 3)
    problem(http.post("/v1/events", content=in_pieces), 413, "too-large")
    bomb = gzip.compress(b"[" + b" " * 50_000 + b"]")
    assert len(bomb) < 500
    problem(http.post("/v1/events", content=bomb, headers={"Content-Encoding": "gzip"}), 413, "too-large")
    assert shelf.kept == []


@pytest.mark.req("P-08")
def test_one_large_event_or_too_many_are_413(http: TestClient, shelf: Shelf) -> None:
    large = json.dumps(event(payload={"note": "x" * body.LARGEST_EVENT})).encode()
    found = problem(http.post("/v1/events", content=b"[" + text({})[1:-1] + b"," + large + b"]"), 413, "too-large")
    assert "event 2" in found["detail"]
    many = b"[" + b"1," * body.MOST_EVENTS + b"1]"
    assert "more than 10000" in problem(http.post("/v1/events", content=many), 413, "too-large")["detail"]
    assert shelf.kept == []


@pytest.mark.req("P-08")
def test_ten_megabytes_of_payload_are_taken(http: TestClient, shelf: Shelf) -> None:
    sent = json.dumps(event(payload={"note": "x" * 10_000_000})).encode()
    assert http.post("/v1/events", content=sent).status_code == 202
    assert [taken.native == sent for taken in shelf.kept] == [True]


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": ""},
        {"Content-Type": "application/json; charset=utf-16"},
        {**JSON, "Content-Encoding": "br"},
        {**JSON, "Content-Encoding": "gzip, gzip"},
    ],
)
def test_other_forms_are_415_and_say_which_are_taken(http: TestClient, headers: dict[str, str]) -> None:
    found = problem(http.post("/v1/events", content=text({}), headers=headers), 415, "unsupported")
    assert "application/x-ndjson" in found["hint"]


def test_parameters_and_case_of_the_content_type_do_not_matter(http: TestClient) -> None:
    headers = {"Content-Type": 'Application/JSON; charset="UTF-8"'}
    assert http.post("/v1/events", content=text({}), headers=headers).status_code == 202


@pytest.mark.parametrize("headers", [JSON, NDJSON])
def test_gzip_is_inflated(http: TestClient, shelf: Shelf, headers: dict[str, str]) -> None:
    sent = json.dumps(event()).encode()
    answer = http.post("/v1/events", content=gzip.compress(sent), headers={**headers, "Content-Encoding": "gzip"})
    assert answer.status_code == 202
    assert shelf.kept[0].native == sent


def test_broken_gzip_is_400_and_the_bytes_as_sent_are_evidence(http: TestClient, shelf: Shelf) -> None:
    sent = gzip.compress(text({}))[:-9]
    problem(http.post("/v1/events", content=sent, headers={"Content-Encoding": "gzip"}), 400, "malformed")
    assert shelf.kept[0].event["native"] == sent


@pytest.mark.req("P-08")
def test_a_client_over_its_rate_is_429_until_it_has_waited(http: TestClient, shelf: Shelf, clock: Clock) -> None:
    headers = {"Authorization": f"Bearer {SLOW_TOKEN}"}

    def post(count: int) -> Any:
        return http.post("/v1/events", content=text(*[{}] * count), headers=headers)

    assert post(10).status_code == 202
    answer = post(1)
    problem(answer, 429, "rate-limited")
    assert answer.headers["retry-after"] == "3"
    assert http.post("/v1/events", content=text({})).status_code == 202, "another client is not held up"
    clock.now += 2.9
    assert post(1).status_code == 429
    clock.now += 0.1
    assert post(1).status_code == 202
    assert len(shelf.kept) == 12


@pytest.mark.req("P-08")
def test_bytes_count_inflated_and_whether_or_not_they_are_events(http: TestClient, clock: Clock) -> None:
    headers = {"Authorization": f"Bearer {SLOW_TOKEN}", "Content-Encoding": "gzip"}
    spaces = gzip.compress(b" " * 500_000 + b"[]")
    assert http.post("/v1/events", content=spaces, headers=headers).status_code == 202
    answer = http.post("/v1/events", content=spaces, headers=headers)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "4")
    clock.now += 4
    assert http.post("/v1/events", content=spaces, headers=headers).status_code == 202


@pytest.mark.req("P-07")
@pytest.mark.parametrize("sent", [text({}), b"not json"])
def test_when_nobody_takes_it_it_is_503(http: TestClient, shelf: Shelf, sent: bytes) -> None:
    shelf.refusing = True
    answer = http.post("/v1/events", content=sent)
    problem(answer, 503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0


def test_health_needs_no_token_and_tells_no_address(http: TestClient, shelf: Shelf) -> None:
    del http.headers["Authorization"]
    spool = {"waiting_bytes": 300, "accepted": 7, "acknowledged": 5, "refused": 1}
    assert http.get("/v1/health").json() == {"status": "ok", "kafka": {"reachable": True}, "spool": spool}
    shelf.is_direct = False
    assert http.get("/v1/health").json() == {"status": "spooling", "kafka": {"reachable": False}, "spool": spool}
    shelf.refusing = True
    answer = http.get("/v1/health")
    assert (answer.status_code, answer.json()["status"]) == (503, "refusing")
    assert "10.0.0.7" not in answer.text


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/events", 405), ("POST", "/nothing", 404)])
def test_other_paths_are_problems_too(http: TestClient, method: str, path: str, status: int) -> None:
    answer = http.request(method, path)
    assert answer.status_code == answer.json()["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_fault_of_ours_is_500_without_its_innards(
    http: TestClient, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_taken: object) -> None:
        raise RuntimeError("secret innards")

    monkeypatch.setattr(shelf, "take", broken)
    answer = http.post("/v1/events", content=text({}))
    problem(answer, 500, "fault")
    assert "secret" not in answer.text


@pytest.mark.req("S3-01")
def test_openapi_has_every_event_type_and_every_answer(http: TestClient) -> None:
    described = http.get("/openapi.json").json()
    schemas = described["components"]["schemas"]
    recorded = {name for name, event_type in event_types().items() if not event_type.control}
    assert set(schemas["Event"]["discriminator"]["mapping"]) == recorded
    order = schemas["OrderFilled"]
    assert order["required"] == list(rules.REQUIRED_KEYS)
    payload = order["properties"]["payload"]
    assert payload["required"] == list(event_types()["order_filled"].required)
    assert payload["properties"]["liquidity_side"]["enum"] == ["maker", "taker", "unknown"]
    assert not {"native", "source_id", "legacy"} & order["properties"].keys()
    post = described["paths"]["/v1/events"]["post"]
    assert set(post["responses"]) == {"202", "400", "401", "403", "408", "413", "415", "429", "503"}
    assert set(post["requestBody"]["content"]) == {"application/json", "application/x-ndjson"}
    assert post["security"] == [{"token": []}]
    for reference in _references(described):
        assert reference.removeprefix("#/components/schemas/") in schemas


def test_the_examples_of_openapi_are_answered_as_they_say(http: TestClient) -> None:
    described = http.get("/openapi.json").json()["paths"]["/v1/events"]["post"]
    content = described["requestBody"]["content"]
    examples = content["application/json"]["examples"]
    wanted = described["responses"]["202"]["content"]["application/json"]["example"]
    assert http.post("/v1/events", json=examples["one"]["value"]).json()["accepted"] == 1
    assert http.post("/v1/events", json=examples["batch"]["value"]).json() == wanted
    lines = content["application/x-ndjson"]["example"]
    assert http.post("/v1/events", content=lines, headers=NDJSON).json()["accepted"] == 1


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)
