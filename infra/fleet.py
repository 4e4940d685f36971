"""A simulated fleet in its native stores: real Postgres, SQLite, JSON lines, Redis, and how to connect to them.

<home>/fleet/catalyst · trend · hummingbot · envelope    files
<home>/fleet/http                                         what the bots posted that have no store, and their spool
<home>/fleet/postgres · valkey                            servers (``embedded/stores``)
<home>/fleet/tradetape.toml                               the sources, for ``tradetape connect --config``
<home>/fleet/ledger.json                                  what was injected, and the codes that must catch it
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tradetape.infra import post, settings
from tradetape.infra.connect import SourceConfig
from tradetape.infra.embedded import stores
from tradetape.infra.files import write_json
from tradetape.producers.simulator import canonical, hummingbot, trend
from tradetape.producers.simulator.canonical_defects import DEFECTS as CANONICAL_DEFECTS
from tradetape.producers.simulator.catalyst import fleet as catalyst
from tradetape.producers.simulator.ledger import Injected, Ledger
from tradetape.producers.simulator.quantum import fleet as quantum
from tradetape.producers.simulator.turtle import fleet as turtle
from tradetape.schemas.errors import TradetapeError

YEAR_MS = 365 * 86_400_000
"""Turtle's steps are days: its bots begin a year before the others, so that none of its days lies ahead."""
ORDERS_PER_STEP = 2
HTTP = "http"
POSTED = "events posted to POST /v1/events"


class Plan(NamedTuple):
    """What to write: bots of each kind, steps of each bot (a trade, an alert, a cycle or a run), from when on."""

    bots: int
    steps: int
    seed: int
    start_ms: int
    defects: bool = True


@dataclass(frozen=True, slots=True)
class Fleet:
    """What was written: by kind the ledger, and all sources."""

    ledgers: Mapping[str, Ledger]
    sources: list[SourceConfig] = field(default_factory=list)
    config: Path = Path()

    @property
    def injected(self) -> list[Injected]:
        """Every defect of every kind."""
        return [found for ledger in self.ledgers.values() for found in ledger.injected]


def simulate(home: Path, plan: Plan, only: Collection[str] = ()) -> Fleet:
    """Let a fleet trade into its stores below ``home``, or go on where they end.

    ``only`` names kinds; without it there are all, ``http`` if a stack runs that it can post to. Raises TradetapeError
    for an unknown kind, and where a store or the gateway does not start.
    """
    unknown = set(only) - KINDS.keys()
    if unknown:
        raise TradetapeError(f"no kind of bot: {', '.join(sorted(unknown))}", hint=f"there are {', '.join(KINDS)}")
    kinds = [kind for kind in KINDS if kind in only or (not only and (kind != HTTP or _can_post(home)))]
    folder = home / "fleet"
    folder.mkdir(parents=True, exist_ok=True)
    servers = {name for kind in kinds for name in _SERVERS.get(kind, ())}
    addresses = {name: found.url for name, found in stores.start(home, servers).items()} if servers else {}
    ledgers: dict[str, Ledger] = {}
    sources: list[SourceConfig] = []
    for kind in kinds:
        ledgers[kind], found = KINDS[kind](folder, addresses, plan)
        sources += found
    config = folder / "tradetape.toml"
    if sources:
        config.write_text(_toml(sources), encoding="utf-8")
        config.chmod(0o600)  # it names the stores' passwords
    fleet = Fleet(ledgers, sources, config)
    _remember(folder / "ledger.json", fleet)
    return fleet


Written = tuple[Ledger, list[SourceConfig]]


def _turtle(folder: Path, servers: Mapping[str, str], plan: Plan) -> Written:
    url = servers[stores.POSTGRES]
    arguments = _arguments(plan, turtle.DEFECTS)
    arguments["start_ms"] -= YEAR_MS
    ledger = turtle.simulate(url, **arguments)
    return ledger, [
        SourceConfig("turtle", turtle.bot_location(url, number), instance=turtle.instance_name(number))
        for number in _numbers(plan)
    ]


def _catalyst(folder: Path, servers: Mapping[str, str], plan: Plan) -> Written:
    ledger = catalyst.simulate(folder / "catalyst", **_arguments(plan, catalyst.DEFECTS))
    return ledger, [SourceConfig("catalyst", str(path), instance=path.stem) for path in ledger.files]


def _trend(folder: Path, servers: Mapping[str, str], plan: Plan) -> Written:
    ledger = trend.simulate(folder / "trend", **_arguments(plan, trend.DEFECTS))
    return ledger, [
        SourceConfig("trend", str(path), instance=name) for path, name in zip(ledger.files, ledger.rows, strict=True)
    ]


def _hummingbot(folder: Path, servers: Mapping[str, str], plan: Plan) -> Written:
    orders = max(plan.steps * ORDERS_PER_STEP, len(hummingbot.CODES))
    ledger = hummingbot.simulate_hummingbot(
        folder / "hummingbot",
        bots=plan.bots,
        orders_per_bot=orders,
        seed=plan.seed,
        defects=hummingbot.CODES if plan.defects else (),
        start_ms=plan.start_ms,
    )
    return ledger, [SourceConfig("hummingbot", str(path), instance=path.stem) for path in ledger.files]


def _quantum(folder: Path, servers: Mapping[str, str], plan: Plan) -> Written:
    url = servers[stores.VALKEY]
    ledger = quantum.simulate(url, **_arguments(plan, quantum.DEFECTS))
    return ledger, [
        SourceConfig("quantum", quantum.bot_location(url, number), instance=quantum.instance_name(number))
        for number in _numbers(plan)
    ]


def _envelope(folder: Path, servers: Mapping[str, str], plan: Plan) -> Written:
    ledger = canonical.simulate(folder / "envelope", **_arguments(plan, CANONICAL_DEFECTS))
    return ledger, [SourceConfig("envelope", str(path), instance=path.stem) for path in ledger.files]


def _http(folder: Path, servers: Mapping[str, str], plan: Plan) -> Written:
    """Bots without a store post what they do; the file of each is its own record of that."""
    journals = folder / HTTP
    journals.mkdir(exist_ok=True)
    arguments = _arguments(plan, CANONICAL_DEFECTS)
    del arguments["bots"]
    ledger = Ledger(files=[journals / f"http_bot_{number}.jsonl" for number in _numbers(plan)])
    with post.gateway(folder.parent, journals / "spool") as address:
        for number, path in enumerate(ledger.files, 1):
            run = canonical.run(path, number, **arguments)
            post.send(address, run.lines)
            ledger.rows[path.stem] = {POSTED: canonical.append(path, run)}
            ledger.injected += [_posted(defect) for defect in run.injected]
        if not post.drained(address):
            ledger.rows = {
                name: {f"{POSTED}, some wait in the spool": rows[POSTED]} for name, rows in ledger.rows.items()
            }
    return ledger, []


def _posted(defect: Injected) -> Injected:
    """What came twice is a repeat: HTTP has no positions that tell one from a second record under its id."""
    return defect._replace(expected="repeated") if defect.kind == "doubled" else defect


def _can_post(home: Path) -> bool:
    try:
        settings.load(home, require=post.ADDRESSES)
    except TradetapeError:
        return False
    return True


KINDS: Mapping[str, Callable[[Path, Mapping[str, str], Plan], Written]] = {
    "turtle": _turtle,
    "catalyst": _catalyst,
    "trend": _trend,
    "hummingbot": _hummingbot,
    "envelope": _envelope,
    "quantum": _quantum,
    HTTP: _http,
}
_SERVERS = {"turtle": (stores.POSTGRES,), "quantum": (stores.VALKEY,)}


def _arguments(plan: Plan, defects: Iterable[str]) -> dict[str, Any]:
    known = list(defects)
    return {
        "bots": plan.bots,
        "steps": max(plan.steps, len(known)) if plan.defects else plan.steps,
        "seed": plan.seed,
        "defects": known if plan.defects else (),
        "start_ms": plan.start_ms,
    }


def _numbers(plan: Plan) -> range:
    return range(1, plan.bots + 1)


def _toml(sources: Iterable[SourceConfig]) -> str:
    blocks = (
        f"[[source]]\nkind = {json.dumps(source.kind)}\nlocation = {json.dumps(source.location)}\n"
        f"instance = {json.dumps(source.instance)}\n"
        for source in sources
    )
    return "# Written by `tradetape simulate`; read by `tradetape connect --config`.\n\n" + "\n".join(blocks)


def _remember(path: Path, fleet: Fleet) -> None:
    """Add this run's defects to those of the runs before."""
    before = json.loads(path.read_text(encoding="utf-8"))["injected"] if path.exists() else []
    found = [{"bots": kind, **defect._asdict()} for kind, ledger in fleet.ledgers.items() for defect in ledger.injected]
    write_json(path, {"injected": [*before, *found]})
