"""A gateway of one's own for a moment, and a client that posts to it: what the demo shows of HTTP."""

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
from pathlib import Path
from typing import NamedTuple
from urllib.request import Request, urlopen

from tradetape.producers.gateway import auth
from tradetape.schemas.errors import TradetapeError

_LISTENING = re.compile(r"http://\S+")
STOP_SECONDS = 30.0
SECONDS = 30.0
POLL_SECONDS = 0.1


class Address(NamedTuple):
    """Where a gateway listens, and a token that it takes."""

    url: str
    token: str


@contextmanager
def gateway(home: Path) -> Iterator[Address]:
    """`tradetape gateway` on a free port, stopped at the end. Raises TradetapeError where it does not start."""
    command = [sys.executable, "-m", "tradetape.infra.cli.main", "--home", str(home), "gateway", "--port", "0"]
    token = secrets.token_urlsafe(24)
    environment = {**os.environ, auth.TOKENS_VARIABLE: f"demo={token}"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
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
    """Wait until nothing of what the gateway took waits in its spool; False if something still does after SECONDS."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        with urlopen(f"{address.url}/v1/health", timeout=SECONDS) as answer:
            if not json.load(answer)["spool"]["waiting_bytes"]:
                return True
        time.sleep(POLL_SECONDS)
    return False


def send(address: Address, lines: Sequence[bytes]) -> int:
    """Post ``lines`` as one batch; returns how many the gateway took."""
    headers = {"Authorization": f"Bearer {address.token}", "Content-Type": "application/x-ndjson"}
    request = Request(f"{address.url}/v1/events", b"\n".join(lines), headers, method="POST")
    with urlopen(request, timeout=SECONDS) as answer:
        return len(json.load(answer)["results"])
