"""Whether what was injected was found: each defect on its own subject, not anywhere in its bot's record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from tradetape.processors.core import Output
from tradetape.processors.findings import RESOLVED

UNTOLD = frozenset({"lost", "reordered"})
"""Defects of a numbered history: the record that they are about may be the one that is not there, or its neighbour."""


class Found(NamedTuple):
    """A finding, a rejection or a repeat: its code, its subject if it has one, and the record that it is on."""

    instance: str
    code: str
    status: str
    subject: str
    raw: bytes

    def is_of(self, defect: Mapping[str, str]) -> bool:
        """Whether it is about the subject of ``defect``: by name, or because that stands in its record."""
        if self.code != defect["expected"] or self.instance not in ("", defect["instance"]):
            return False
        return defect["subject"] in self.subject or defect["subject"].encode() in self.raw


def of_outputs(outputs: Iterable[Output]) -> list[Found]:
    """What the core says in ``outputs``."""
    found = []
    for output in outputs:
        record = output.audited
        instance, raw = record["instance_name"], record["raw"]
        found += [Found(instance, one["code"], one["status"], one["subject"], raw) for one in record["findings"]]
        found += [Found(instance, code, "", "", raw) for code in record["reasons"]]
    return found


def standing(found: Iterable[Found]) -> list[Found]:
    """``found``, which is in the order of the record, without what was resolved later."""
    kept: list[Found] = []
    for one in found:
        if one.status == RESOLVED:
            kept = [other for other in kept if other[:2] != one[:2] or other.subject != one.subject]
        else:
            kept.append(one)
    return kept


def missed(injected: Iterable[Mapping[str, Any]], found: Iterable[Found]) -> list[Mapping[str, Any]]:
    """The defects with a code (``Injected._asdict()``) that nothing that stands in ``found`` is of.

    Where a history's number tells, and the record that is missing or out of place is not the one with the finding, the
    bot must have as many findings of that code as were injected.
    """
    known = standing(found)
    told = [defect for defect in injected if defect["expected"]]
    wanted = Counter((defect["instance"], defect["expected"]) for defect in told)
    having = Counter((one.instance, one.code) for one in known)

    def is_found(defect: Mapping[str, Any]) -> bool:
        place = (defect["instance"], defect["expected"])
        return any(one.is_of(defect) for one in known) or (defect["kind"] in UNTOLD and having[place] >= wanted[place])

    return [defect for defect in told if not is_found(defect)]
