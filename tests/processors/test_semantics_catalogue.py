"""The catalogue of codes and the code that writes them say the same."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.requirements import promises

from tradetape.processors import findings
from tradetape.processors.findings import CATALOGUE
from tradetape.schemas.rules import REASONS

ROOT = Path(findings.__file__).resolve().parents[1]
SEVERITIES = {"info", "warning", "error", "critical"}


def trees(*rooms: str) -> Iterator[ast.Module]:
    for room in rooms:
        for path in sorted((ROOT / room).rglob("*.py")):
            if "simulator" not in path.parts:
                yield ast.parse(path.read_text(encoding="utf-8"))


def texts(tree: ast.Module) -> Iterator[str]:
    """Every text of a module that is no docstring."""
    standing = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in standing:
            yield node.value


def first_arguments(tree: ast.Module, *functions: str) -> Iterator[str]:
    """Texts that stand as first argument of a call of one of ``functions``."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        first = node.args[0]
        if name in functions and isinstance(first, ast.Constant) and isinstance(first.value, str):
            yield first.value


@pytest.mark.req("P-04")
def test_every_finding_that_is_written_is_catalogued() -> None:
    written = {code for tree in trees("processors") for code in first_arguments(tree, "finding")}
    assert len(written) > 15
    assert written <= CATALOGUE.keys()


def test_every_catalogued_finding_is_written_somewhere() -> None:
    written = {text for tree in trees("processors") for text in texts(tree)}
    assert CATALOGUE.keys() <= written


@pytest.mark.req("S3-05")
def test_every_reason_that_is_written_is_catalogued_and_the_other_way_round() -> None:
    functions = ("Violation", "NumberError", "TimeError")
    rooms = ("schemas", "processors", "producers")
    written = {code for tree in trees(*rooms) for code in first_arguments(tree, *functions) if code}
    assert written <= REASONS.keys()
    everything = {text for tree in trees(*rooms) for text in texts(tree)}
    assert REASONS.keys() - everything == set()


@pytest.mark.parametrize("code", CATALOGUE)
def test_every_finding_is_explained(code: str) -> None:
    kind = CATALOGUE[code]
    assert kind.severity in SEVERITIES
    assert kind.subject and kind.meaning and kind.example
    assert "\n" not in kind.example
    assert set(kind.requirements) <= promises().keys() and kind.requirements


@pytest.mark.parametrize("code", REASONS)
def test_every_reason_is_explained(code: str) -> None:
    reason = REASONS[code]
    assert reason.meaning and reason.example
    assert "\n" not in reason.example
    assert set(reason.requirements) <= promises().keys() and reason.requirements
