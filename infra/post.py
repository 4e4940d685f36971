"""A gateway of one's own for a moment, and a client that posts to it: how simulated bots use HTTP."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tradetape.infra import settings
from tradetape.producers.gateway.auth import TOKENS
from tradetape.schemas.errors import TradetapeError

ADDRESSES = ("bootstrap_servers", "registry_url")
"""What the gateway has to know of a stack; it need not run."""
BATCH = 2000
"""Events of one POST."""
_LISTENING = re.compile(r"http://\S+")
STOP_SECONDS = 30.0
SECONDS = 30.0
DRAIN_SECONDS = 30.0
POLL_SECONDS = 0.1


class Address(NamedTuple):
    """Where a gateway listens, and a token that it takes."""

    url: str
    token: str


@contextmanager
def gateway(home: Path, spool: Path) -> Iterator[Address]:
    """`tradetape gateway` on a free port, with a spool of its own at ``spool``; stopped at the end.

    Raises TradetapeError where no stack is known to ``home``, and where the gateway does not start.
    """
    settings.load(home, require=ADDRESSES)
    command = [sys.executable, "-m", "tradetape.infra.cli.main", "--home", str(home), "gateway", "--port", "0"]
    token = secrets.token_urlsafe(24)
    environment = {**os.environ, TOKENS.variable: f"simulated={token}"}
    process = subprocess.Popen([*command, "--spool", str(spool)], stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        url = next((found[0] for line in process.stdout if (found := _LISTENING.search(line))), "")
        if not url:
            raise TradetapeError("the gateway did not start", hint="run `tradetape gateway` to see why")
        yield Address(url, token)
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)


def drained(address: Address) -> bool:
    """Wait until the gateway's spool is empty; False if something still waits in it after DRAIN_SECONDS."""
    until = time.monotonic() + DRAIN_SECONDS
    while time.monotonic() < until:
        if not _waiting(address):
            return True
        time.sleep(POLL_SECONDS)
    return False


def _waiting(address: Address) -> int:
    try:
        with urlopen(f"{address.url}/v1/health", timeout=SECONDS) as answer:
            health = json.load(answer)
    except HTTPError as error:  # how it says that it takes nothing more; the numbers are there all the same
        health = json.load(error)
    waiting: int = health["spool"]["waiting_bytes"]
    return waiting


def send(address: Address, lines: Sequence[bytes]) -> None:
    """Post ``lines`` in batches. Raises TradetapeError where the gateway does not take one."""
    for start in range(0, len(lines), BATCH):
        _post(address, b"\n".join(lines[start : start + BATCH]))


def _post(address: Address, body: bytes) -> None:
    headers = {"Authorization": f"Bearer {address.token}", "Content-Type": "application/x-ndjson"}
    request = Request(f"{address.url}/v1/events", body, headers, method="POST")
    while True:
        try:
            with urlopen(request, timeout=SECONDS):
                return
        except HTTPError as error:
            if error.code != HTTPStatus.TOO_MANY_REQUESTS:
                raise TradetapeError(f"the gateway answers {error.code}: {error.read().decode()[:300]}") from error
            time.sleep(float(error.headers["Retry-After"]))
        except OSError as error:
            raise TradetapeError(f"the gateway does not answer ({error})", hint="run the same again") from error
