"""Data flows one way: which room may import which (design, Rooms)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHELL = ("stream", "worker.py")
"""Of the processors: what moves bytes. Everything else is the core."""
CORE = sorted(
    path.relative_to(ROOT / "processors").as_posix()
    for path in (ROOT / "processors").rglob("*.py")
    if path.relative_to(ROOT / "processors").parts[0] not in SHELL
)
MAY_IMPORT = {
    "schemas": {"schemas"},
    "producers": {"producers", "schemas"},
    "processors": {"processors", "schemas"},
    "sinks": {"sinks", "schemas", "processors"},
    "infra": {"infra", "schemas", "producers", "processors", "sinks"},
}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_what_stands_before_it(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == "tradetape" and len(parts) > 1:
                assert parts[1] in MAY_IMPORT[room], f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("module", CORE)
def test_the_core_does_no_input_or_output(module: str) -> None:
    forbidden = {
        "faust",
        "mode",
        "aiokafka",
        "confluent_kafka",
        "clickhouse_connect",
        "os",
        "time",
        "random",
        "socket",
        "asyncio",
    }
    names = {name.split(".")[0] for name in imports(ROOT / "processors" / module)}
    assert not names & forbidden


def test_no_import_circles_between_modules() -> None:
    graph: dict[str, set[str]] = {}
    for room in MAY_IMPORT:
        for path in (ROOT / room).rglob("*.py"):
            name = ".".join(("tradetape", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
            graph[name] = {target for target in _top_level(path) if target.startswith("tradetape.") and target != name}
    visiting: set[str] = set()
    done: set[str] = set()

    def visit(name: str, way: list[str]) -> None:
        assert name not in visiting, " → ".join([*way, name])
        if name in done or name not in graph:
            return
        visiting.add(name)
        for target in sorted(graph[name]):
            visit(target, [*way, name])
        visiting.discard(name)
        done.add(name)

    for name in sorted(graph):
        visit(name, [])


def _top_level(path: Path) -> Iterator[str]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                below = ROOT.joinpath(*node.module.split(".")[1:], alias.name)
                is_module = below.with_suffix(".py").exists() or below.is_dir()
                yield f"{node.module}.{alias.name}" if is_module else node.module
