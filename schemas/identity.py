"""Ids: any UUID is one; everything else becomes a UUIDv5 of what names it at its source (S3-01)."""

from __future__ import annotations

from uuid import UUID, uuid5

ROOT = UUID("6f0a4d3e-1c55-5d0b-9a43-7e1d5b9f2c11")
"""Namespace of every id that Tradetape derives. Never change it: ids of stored events follow from it."""


def derive(*parts: str) -> str:
    """UUIDv5 of ``parts``; parts cannot run into one another."""
    escaped = (part.replace("\x1e", "\x1e\x1e").replace("\x1f", "\x1e\x1f") for part in parts)
    return str(uuid5(ROOT, "\x1f".join(escaped)))


def canonical(native: str) -> str | None:
    """``native`` as a UUID in its usual form, or None if it is no UUID."""
    try:
        return str(UUID(native))
    except ValueError:
        return None
