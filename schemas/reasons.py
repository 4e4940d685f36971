"""Reason codes of rejections as data: ``reasons.toml`` (S3-05)."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason code: what it says of an event, an event that has it, and the promises behind it."""

    meaning: str
    example: str
    requirements: tuple[str, ...]


def read() -> dict[str, Reason]:
    """Every reason by its code, in the order of the file."""
    source = files("tradetape.schemas").joinpath("reasons.toml").read_text(encoding="utf-8")
    return {
        code: Reason(entry["meaning"], entry["example"], tuple(entry["requirements"]))
        for code, entry in tomllib.loads(source).items()
    }
