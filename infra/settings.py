"""Where the stack is: the three addresses, the home folder and the cache.

Every address comes from its environment variable, else from what ``tradetape up`` recorded in
``<home>/stack.json``. So the same code runs on the embedded stack, on compose and on a cluster.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tradetape.infra.stackfile import StackFile
from tradetape.schemas.errors import TradetapeError
from tradetape.schemas.topics import DEFAULT_PARTITIONS

HOME = "TRADETAPE_HOME"
BOOTSTRAP_SERVERS = "TRADETAPE_BOOTSTRAP_SERVERS"
REGISTRY_URL = "TRADETAPE_REGISTRY_URL"
CLICKHOUSE_URL = "TRADETAPE_CLICKHOUSE_URL"
CACHE = "TRADETAPE_CACHE"

DATABASE = "tradetape"
DEFAULT_HOME = Path(".tradetape")

ADDRESSES: Mapping[str, str] = {
    "bootstrap_servers": BOOTSTRAP_SERVERS,
    "registry_url": REGISTRY_URL,
    "clickhouse_url": CLICKHOUSE_URL,
}
"""Field of Settings → environment variable that overrides what ``tradetape up`` recorded."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The addresses and folders that one invocation works with.

    ``home`` and ``cache`` are absolute. ``bootstrap_servers`` is a Kafka list ``host:port,…``; the two URLs
    carry scheme and port and no trailing slash. ``partitions`` is what topics are created with.
    An address that was neither required nor configured is the empty string.
    """

    home: Path
    bootstrap_servers: str
    registry_url: str
    clickhouse_url: str
    database: str
    partitions: int
    cache: Path


def resolve_home(home: Path | None = None) -> Path:
    """The absolute home folder: the one given, else ``TRADETAPE_HOME``, else ``./.tradetape``."""
    if home is None:
        configured = os.environ.get(HOME, "")
        home = Path(configured) if configured else DEFAULT_HOME
    return Path(os.path.abspath(home.expanduser()))  # noqa: PTH100 (resolve() would follow links)


def resolve_cache() -> Path:
    """The absolute folder for downloads that all homes share: ``TRADETAPE_CACHE``, else the user's cache."""
    configured = os.environ.get(CACHE, "")
    if configured:
        return Path(os.path.abspath(Path(configured).expanduser()))  # noqa: PTH100
    import platformdirs

    return Path(platformdirs.user_cache_dir("tradetape"))


def load(home: Path | None = None, *, require: Iterable[str] = tuple(ADDRESSES)) -> Settings:
    """The settings for ``home`` (default: see resolve_home).

    ``require`` names the addresses that must be known, by default all three; the others may be empty.
    Raises TradetapeError when a required one is neither in the environment nor recorded by a running stack.
    """
    home = resolve_home(home)
    found = {name: os.environ.get(variable, "") for name, variable in ADDRESSES.items()}
    partitions, running = DEFAULT_PARTITIONS, False
    stack = StackFile.read(home)
    if stack is not None:
        partitions = stack.partitions
        if not all(found.values()) and _is_running(home):
            recorded = stack.addresses()
            found = {name: value or recorded.get(name, "") for name, value in found.items()}
            running = bool(recorded)
    missing = [ADDRESSES[name] for name in require if not found[name]]
    if missing:
        raise TradetapeError(
            f"the stack in {home} runs without what this needs" if running else f"no stack is running in {home}",
            hint=f"start it with `tradetape up`, or set {' and '.join(missing)}",
        )
    return Settings(
        home=home,
        bootstrap_servers=found["bootstrap_servers"],
        registry_url=found["registry_url"].rstrip("/"),
        clickhouse_url=found["clickhouse_url"].rstrip("/"),
        database=DATABASE,
        partitions=partitions,
        cache=resolve_cache(),
    )


def _is_running(home: Path) -> bool:
    # psutil is in the `cli` extra; a worker whose environment names all addresses never gets here.
    from tradetape.infra.embedded import processes

    return processes.find(home, processes.SUPERVISOR) is not None
