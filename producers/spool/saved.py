"""Small JSON files beside the segments, replaced as a whole, so that a killed process leaves the old or the new one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def load(path: Path) -> dict[str, Any]:
    """What was saved at ``path``; empty where nothing was, or it cannot be read as that."""
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def save(path: Path, content: dict[str, Any]) -> None:
    """Replace ``path``. Raises OSError. It is not synced: an older state only leads to repeats."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content), encoding="utf-8")
    temporary.replace(path)
