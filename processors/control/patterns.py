"""Patterns of accounts, instances and pairs, those of file names: what limits and kills are about (S4-06)."""

from __future__ import annotations

from fnmatch import fnmatchcase

MOST_CHARACTERS = 600
"""Of one pattern. ``literal`` makes up to three characters of one."""

_MAGIC = frozenset("*?[")


def matches(name: str, pattern: str) -> bool:
    """Whether ``pattern`` is about ``name``; most are ``*`` or a plain name, which no expression has to find out."""
    if pattern == "*":
        return True
    return pattern == name if _MAGIC.isdisjoint(pattern) else fnmatchcase(name, pattern)


def literal(name: str) -> str:
    """``name`` as a pattern that matches nothing else."""
    return "".join(f"[{character}]" if character in _MAGIC else character for character in name)
