"""Turtle's document, read as it is: its types, outcomes, context blocks and example flows."""

from __future__ import annotations

import ast
import json
import os
import re
from pathlib import Path
from typing import Any

SHARED = Path(os.environ.get("TRADETAPE_SHARED") or Path(__file__).resolve().parents[3] / "shared")
TEXT = (SHARED / "seeds" / "000_e6ccdf4cfe51d3f2.txt").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def enum_of(name: str) -> dict[str, str]:
    """The members of one of the document's enumerations."""
    (models,) = [block for block in blocks("python") if "class EventType" in block]
    (found,) = [n for n in ast.parse(models).body if isinstance(n, ast.ClassDef) and n.name == name]
    members = [node for node in found.body if isinstance(node, ast.Assign)]
    return {
        node.targets[0].id: ast.literal_eval(node.value) for node in members if isinstance(node.targets[0], ast.Name)
    }


def tables() -> list[str]:
    """Event types of the document's tables."""
    return re.findall(r"^\| `([A-Z_]+)` \|", TEXT, re.MULTILINE)


def contexts() -> dict[str, Any]:
    """The document's context blocks by name, as a bot would write them: comments and Python's spelling gone."""
    found: dict[str, Any] = {}
    for block in blocks("python"):
        if not block.startswith("{"):
            continue
        lines = [re.sub(r"(?<=[\s,])#.*$", "", line) for line in block.splitlines() if not line.strip().startswith("#")]
        text = re.sub(r",(\s*[}\]])", r"\1", "\n".join(lines))
        found |= json.loads(text)
    return found


def flows() -> list[tuple[str, list[tuple[str, str]]]]:
    """The example flows: titles and (event type, what is printed under it)."""
    part = TEXT[TEXT.index("## Example Event Sequences") : TEXT.index("## Database Schema")]
    found = []
    for title, block in re.findall(r"### (.*?)\n\n```\n(.*?)```", part, re.DOTALL):
        steps = re.split(r"^\d+\. ", block, flags=re.MULTILINE)[1:]
        found.append((title, [(step.split("\n", 1)[0].strip(), step) for step in steps]))
    return found


def printed(step: str) -> tuple[str | None, str | None, dict[str, Any] | None]:
    """Symbol, outcome and context of one printed step; None for blocks that it leaves out."""
    symbol = re.search(r"symbol: (\w+)", step)
    outcome = re.search(r"outcome: (\w+)", step)
    context = re.search(r"context: (\{.*\})", step, re.DOTALL)
    parsed = None
    if context is not None:
        text = context.group(1).replace("{all passed}", '"all passed"').replace("{...}", "{}").replace(", ...]", "]")
        text = re.sub(r"(\w+):(?= )", r'"\1":', text)
        text = re.sub(r": ([A-Z]\w*)(?=[,}])", r': "\1"', text)
        parsed = json.loads(text)
    return symbol and symbol.group(1), outcome and outcome.group(1), parsed


BLOCKS = contexts()


def whole(native_type: str, context: dict[str, Any] | None) -> dict[str, Any] | None:
    """The context of a printed step as a bot writes it; an order has every block, with what is printed laid over it."""
    if not native_type.endswith(("_ATTEMPTED", "_FILLED")):
        return context
    full = dict(BLOCKS)
    for name, block in (context or {}).items():
        full[name] = {**full.get(name, {}), **block} if isinstance(block, dict) else block
    return full
