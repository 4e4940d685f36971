"""A running ``tradetape gateway``, and posting to it as a bot would."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from tests.forks import CLI, Forks, Process
from tests.support import eventually

START_SECONDS = 60.0


class Gateway:
    """A gateway process on ``home`` with a folder of its own.

    ``env`` is its environment, ``tokens`` a file that is there; without it the gateway makes one.
    """

    def __init__(
        self, home: Path, folder: Path, env: Mapping[str, str], forks: Forks, tokens: Path | None = None
    ) -> None:
        self.folder = folder
        self._forks = forks
        self.tokens = tokens or folder / "tokens.toml"
        self._log = folder / "gateway.log"
        self._env = dict(env)
        self._home = home
        self._port = 0
        self.process = self._spawn()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    @property
    def url(self) -> str:
        """Where it listens, once it does."""

        def listens() -> bool:
            assert self.process.poll() is None, self.log()
            return httpx.get(f"http://127.0.0.1:{self.port()}/v1/health", timeout=5).status_code in (200, 503)

        def reached() -> bool:
            try:
                return listens()
            except httpx.TransportError:
                return False

        eventually(reached, START_SECONDS, "the gateway listens")
        return f"http://127.0.0.1:{self._port}"

    def port(self) -> int:
        """Its port, from what it said."""

        def said() -> str:
            assert self.process.poll() is None, self.log()
            return self.log().partition("listening on http://127.0.0.1:")[2].partition(" ")[0]

        if not self._port:
            self._port = int(eventually(said, START_SECONDS, "the gateway says where it listens"))
        return self._port

    def client(self, name: str = "default") -> httpx.Client:
        """A client with the token of ``name``."""
        url = self.url
        entry = tomllib.loads(self.tokens.read_text())[name]
        headers = {"Authorization": f"Bearer {entry['token']}", "Content-Type": "application/json"}
        return httpx.Client(base_url=url, headers=headers, timeout=30)

    def health(self) -> dict[str, Any]:
        """What it says of itself."""
        found: dict[str, Any] = httpx.get(f"{self.url}/v1/health", timeout=10).json()
        return found

    def log(self) -> str:
        """What it wrote since it was first started."""
        return self._log.read_text("utf-8", "replace")

    def stop(self) -> int:
        """SIGTERM; returns its exit code."""
        self.process.terminate()
        return self.process.wait(40)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def start_again(self, env: Mapping[str, str] | None = None) -> None:
        """Start it again on the same port and spool; ``env`` is added to its environment."""
        assert self.process.poll() is not None
        self.process = self._spawn(env or {})

    def _spawn(self, env: Mapping[str, str] | None = None) -> Process:
        options = (
            *("--home", str(self._home), "--port", str(self._port)),
            *("--tokens", str(self.tokens), "--spool", str(self.folder / "spool")),
        )
        return self._forks.start(CLI, ("gateway", *options), {**self._env, **(env or {})}, self._log)
