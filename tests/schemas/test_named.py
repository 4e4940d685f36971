"""Records that schemas share."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tradetape.schemas import named
from tradetape.schemas.catalogue import event_types

INNER = {
    "type": "record",
    "name": "Inner",
    "namespace": "n",
    "fields": [{"name": "deep", "type": ["null", "n.Deep"], "default": None}],
}
DEEP = {"type": "record", "name": "Deep", "namespace": "n", "fields": [{"name": "x", "type": "long"}]}


def outer(*types: Any) -> dict[str, Any]:
    fields = [{"name": f"f{index}", "type": kind} for index, kind in enumerate(types)]
    return {"type": "record", "name": "Outer", "namespace": "n", "fields": fields}


def read(name: str) -> dict[str, Any]:
    return {"n.Inner": INNER, "n.Deep": DEEP}[name]


def test_a_name_is_defined_where_it_comes_first_only() -> None:
    linked = named.link(outer("n.Deep", ["null", "n.Inner"], {"type": "array", "items": "n.Inner"}), read)
    first, second, third = (field["type"] for field in linked["fields"])
    assert first == DEEP
    assert second[1]["fields"][0]["type"] == ["null", "n.Deep"]
    assert third == {"type": "array", "items": "n.Inner"}


@given(st.lists(st.sampled_from(["n.Deep", "n.Inner", "long", {"type": "map", "values": "n.Deep"}]), max_size=5))
def test_written_out_every_name_is_what_it_stands_for(types: list[Any]) -> None:
    def written_out(kind: Any) -> Any:
        if kind == "n.Deep":
            return DEEP
        if kind == "n.Inner":
            return {**INNER, "fields": [{"name": "deep", "type": ["null", DEEP], "default": None}]}
        return {"type": "map", "values": DEEP} if isinstance(kind, dict) else kind

    expanded = named.expand(named.link(outer(*types), read))
    assert [field["type"] for field in expanded["fields"]] == [written_out(kind) for kind in types]


def test_payload_fields_hold_no_name_that_is_not_written_out() -> None:
    def names(schema: Any) -> set[str]:
        if isinstance(schema, str):
            return {schema}
        if isinstance(schema, list):
            return set().union(*map(names, schema))
        inner = [schema[key] for key in ("type", "items", "values") if key in schema]
        inner += [field["type"] for field in schema.get("fields", ())]
        return set().union(*map(names, inner))

    for event_type in event_types().values():
        found = set().union(*(names(field["type"]) for field in event_type.payload_fields), set())
        assert found <= named.PRIMITIVES | {"record", "array", "map"}, event_type.name
