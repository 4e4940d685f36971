"""One embedded stack for the tests that ask the whole way: real servers, worker, sink and bridge."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.forks import CLI, COMMANDS, Forks

from tradetape.infra.cli import main as cli


@dataclass(frozen=True, slots=True)
class Tradetape:
    """The command line on one home."""

    home: Path
    forks: Forks

    def run(self, *arguments: str, stdin: bytes = b"", check: bool = True) -> subprocess.CompletedProcess[bytes]:
        """Run one command as a person would; fails with what it said."""
        done = self.forks.run(CLI, ("--home", str(self.home), *arguments), os.environ, stdin)
        if check:
            assert done.returncode == 0, (
                f"{arguments}: {done.returncode}\n{done.stdout.decode()}\n{done.stderr.decode()}"
            )
        return done

    def ask(self, *arguments: str) -> list[dict[str, Any]]:
        """The rows that a question answers, without a process of its own: most of what one costs is its imports."""
        done = CliRunner().invoke(cli.tradetape, ["--home", str(self.home), *arguments, "--output", "json"])
        if done.exception is not None:
            raise AssertionError(f"{arguments}: {done.output}") from done.exception
        return [json.loads(line) for line in done.stdout_bytes.splitlines()]

    def rows(self, query: str, **params: str) -> list[dict[str, Any]]:
        """The rows of a named query, from its JSON output."""
        given = [part for name, value in params.items() for part in ("--param", f"{name}={value}")]
        return self.ask("query", query, *given)

    def sql(self, statement: str) -> list[dict[str, Any]]:
        """The rows of a statement of one's own."""
        return self.ask("sql", statement)


@pytest.fixture(scope="package")
def forks() -> Iterator[Forks]:
    with Forks(COMMANDS) as found:
        yield found


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Iterator[Tradetape]:
    """A whole running stack in a home of its own."""
    tradetape = Tradetape(tmp_path_factory.mktemp("home"), forks)
    tradetape.run("up")
    yield tradetape
    tradetape.run("down")
