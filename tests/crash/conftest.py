"""One stack for all crash tests: starting it costs as much as two of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.crash.pipeline import BOT, BRIDGE, READER, SINK, WORKER, Pipeline, running
from tests.crash.undisturbed import Undisturbed
from tests.forks import COMMANDS, Forks


@pytest.fixture(scope="package")
def forks() -> Iterator[Forks]:
    with Forks((WORKER, SINK, BRIDGE, READER, BOT, *COMMANDS)) as found:
        yield found


@pytest.fixture(scope="package")
def pipeline(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Iterator[Pipeline]:
    with running(tmp_path_factory.mktemp("crash") / "home", forks) as found:
        yield found


@pytest.fixture(scope="package")
def undisturbed(pipeline: Pipeline) -> Iterator[Undisturbed]:
    """The offline recomputation of everything that the stack ever took in."""
    with Undisturbed(pipeline.bootstrap_servers, pipeline.registry) as found:
        yield found
