"""``make requirements``: every promise of requirements.md with the tests that name it, and those without one."""

from __future__ import annotations

import os
import re
import sys
from collections import defaultdict
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("TRADETAPE_SHARED", ROOT.parent / "shared"))
LINE = re.compile(r"^\| (?P<id>[A-Z]\d?-\d\d) \| (?P<promise>.+) \|$")


class Marks:
    """Collects ``@pytest.mark.req`` of every test without running one."""

    def __init__(self) -> None:
        self.tests: dict[str, set[str]] = defaultdict(set)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            for mark in item.iter_markers("req"):
                for promise in mark.args:
                    self.tests[promise].add(item.nodeid.partition("[")[0])


def promises() -> dict[str, str]:
    """Id and text of every promise."""
    text = (SHARED / "requirements.md").read_text(encoding="utf-8")
    return {match["id"]: match["promise"] for line in text.splitlines() if (match := LINE.match(line))}


def main() -> int:
    """Print the table; exit code 1 where a test names a promise that does not exist."""
    marks = Marks()
    if pytest.main(["--collect-only", "-qqq", "--no-summary", str(ROOT / "tests")], plugins=[marks]) != 0:
        return 1
    known = promises()
    for promise, text in known.items():
        tests = sorted(marks.tests.get(promise, ()))
        click.secho(f"{promise}  {text}", bold=True, fg=None if tests else "yellow")
        for test in tests or ["no test yet"]:
            click.echo(f"    {test}")
    proved = sum(1 for promise in known if marks.tests.get(promise))
    click.echo(f"\n{proved} of {len(known)} promises carry tests")
    unknown = sorted(marks.tests.keys() - known.keys())
    if unknown:
        click.secho(f"tests name promises that do not exist: {', '.join(unknown)}", fg="red")
    return 1 if unknown else 0


if __name__ == "__main__":
    sys.exit(main())
