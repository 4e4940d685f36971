"""``tradetape limits`` and ``tradetape kill``: orders of operators, each an event in every partition (S4-06)."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tradetape.infra.cli.options import home_option
from tradetape.schemas.errors import TradetapeError

if TYPE_CHECKING:
    from tradetape.processors.control.limits import LimitSet
    from tradetape.producers.events import Event

_EVERYWHERE = "all"

STORED_SECONDS = 10.0
"""How long a kill may take from its order into the store."""
LOOK_SECONDS = 0.5


def _said(_: click.Context, option: click.Parameter, value: str) -> str:
    """For options whose answer goes on record as who and why: blank is none."""
    if not value.strip():
        raise click.BadParameter("it is blank", param=option)
    return value.strip()


_BY = click.option("--by", required=True, metavar="NAME", callback=_said, help="Who orders it; it goes on record.")


@click.group()
def limits() -> None:
    """Limits on the figures of the fleet; history shows which held when."""


@limits.command("set")
@click.argument("file", type=click.Path(path_type=Path))
@_BY
@click.option("--reason", default="", help="Why.")
@home_option
def set_limits(file: Path, by: str, reason: str, home: Path) -> None:
    """From now on the rules of FILE (TOML) hold, in place of all before."""
    from tradetape.processors.control import limits as rules
    from tradetape.producers.bridge import orders

    wanted = read_rules(file)
    text, digest = rules.text(wanted), rules.digest(wanted)
    sent = _broadcast(
        home,
        lambda partitions: orders.limits(text, digest, _now(), set_by=by, reason=reason, partitions=partitions),
    )
    click.echo(
        f"{len(wanted.limit)} limits hold in {sent} partitions, digest {digest[:12]}; see `tradetape query limits`"
    )


@limits.command("check")
@click.argument("file", type=click.Path(path_type=Path))
def check_limits(file: Path) -> None:
    """Whether FILE can be used; nothing is changed."""
    click.echo(f"{len(read_rules(file).limit)} limits")


@click.group()
def kill() -> None:
    """The kill switch: Tradetape orders and records, bots stop themselves."""


@kill.command("order")
@_BY
@click.option("--reason", required=True, callback=_said, help="Why.")
@click.option(
    "--environment",
    type=click.Choice(["live", "paper", "testnet", "backtest", _EVERYWHERE]),
    default="live",
    show_default=True,
)
@click.option("--account", default="*", show_default=True, help="Pattern of accounts; '' are bots that name none.")
@click.option("--instance", default="*", show_default=True, callback=_said, help="Pattern of instances.")
@home_option
def order_kill(  # noqa: PLR0917 (click passes them by name)
    by: str, reason: str, environment: str, account: str, instance: str, home: Path
) -> None:
    """Everything in scope has to stop; prints the kill's id."""
    from tradetape.producers.bridge import orders
    from tradetape.schemas import identity

    at = _now()
    kill_id = identity.derive("operator", by, at.isoformat(), environment, account, instance)
    _broadcast(
        home,
        lambda partitions: orders.kill(
            kill_id,
            at,
            trigger="operator",
            partitions=partitions,
            environment="" if environment == _EVERYWHERE else environment,
            account=account,
            instance=instance,
            ordered_by=by,
            reason=reason,
        ),
    )
    click.echo(kill_id)


@kill.command("reset")
@click.argument("kill_id")
@_BY
@click.option("--reason", required=True, callback=_said, help="Why it may go on.")
@home_option
def reset_kill(kill_id: str, by: str, reason: str, home: Path) -> None:
    """End the kill KILL_ID; `tradetape query kills` lists them."""
    from tradetape.producers.bridge import orders

    _look_up(kill_id, home)
    _broadcast(
        home, lambda partitions: orders.reset(kill_id, _now(), operator=by, reason=reason, partitions=partitions)
    )
    click.echo(f"kill {kill_id} is reset")


def _look_up(kill_id: str, home: Path) -> None:
    """Raises TradetapeError where the store has no such kill; a store that cannot be asked holds up no reset."""
    from tradetape.infra import settings

    url = settings.load(home, require=("bootstrap_servers", "registry_url")).clickhouse_url
    try:
        is_known = _is_stored(kill_id, url)
    except TradetapeError as error:
        click.echo(f"tradetape: whether there is a kill {kill_id!r} cannot be looked up: {error}", err=True)
        return
    if not is_known:
        raise TradetapeError(f"no kill {kill_id!r} is on record", hint="`tradetape query kills` lists them")


def _is_stored(kill_id: str, url: str) -> bool:
    """Whether `tradetape query kills` has it; one that was just ordered is waited for."""
    from tradetape.sinks import queries
    from tradetape.sinks.store import Store

    store, until = Store(url), time.monotonic() + STORED_SECONDS
    while True:
        if kill_id in {row["kill_id"] for row in queries.rows(store, "kills")}:
            return True
        if time.monotonic() > until:
            return False
        time.sleep(LOOK_SECONDS)


def _now() -> datetime:
    return datetime.now(UTC)


def read_rules(file: Path) -> LimitSet:
    """The rules of a TOML ``file``. Raises TradetapeError with what to write instead."""
    from tradetape.processors.control import limits as rules

    try:
        return rules.check(tomllib.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise TradetapeError(f"cannot read {file} ({error.strerror})", hint="give a TOML file of limits") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TradetapeError(f"{file} is no TOML ({error})") from None


def _broadcast(home: Path, copies: Callable[[int], list[Event]]) -> int:
    from tradetape.infra import settings
    from tradetape.producers.bridge.broadcast import broadcast
    from tradetape.producers.emitter import Emitter

    stack = settings.load(home, require=("bootstrap_servers", "registry_url"))
    with Emitter(stack.bootstrap_servers, stack.registry_url, ahead=False) as emitter:
        return broadcast(emitter, copies(emitter.partitions()))


COMMANDS = (limits, kill)
