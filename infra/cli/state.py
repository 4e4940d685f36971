"""``tradetape state`` and ``tradetape snapshot``: the record as of any time (S1-06, S1-07, N-05)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tradetape.infra.cli import answers
from tradetape.infra.cli.folding import open_record
from tradetape.infra.cli.moments import MOMENT
from tradetape.infra.cli.options import home_option, output_option
from tradetape.schemas.errors import TradetapeError

if TYPE_CHECKING:
    from tradetape.sinks.travel import When

Command = Callable[..., Any]


def _when(command: Command) -> Command:
    """Adds ``--at``, ``--known-at`` and ``--no-snapshots``: the command gets ``when: When``."""

    @wraps(command)
    def bound(*args: Any, at: int | None, known_at: int | None, no_snapshots: bool, **kwargs: Any) -> Any:
        from tradetape.sinks.travel import When

        return command(*args, when=When(at, known_at, not no_snapshots), **kwargs)

    for option in (
        click.option("--no-snapshots", is_flag=True, help="Fold from the first record; the answer is the same."),
        click.option("--known-at", type=MOMENT, help="Only what was taken in up to then [everything]."),
        click.option("--at", type=MOMENT, help="Only events that happened up to then [everything]."),
    ):
        bound = option(bound)
    return bound


_ENVIRONMENT = click.option("--environment", default="", help="Only of this environment.")
_ACCOUNT = click.option("--account", default=None, help="Only of this account; '' are bots that name none.")


@click.group()
def state() -> None:
    """What was the case at any time, as the record shows it, or as it was known then."""


@state.command("instance")
@click.argument("name")
@_ENVIRONMENT
@_ACCOUNT
@_when
@output_option
@home_option
def instance(name: str, environment: str, account: str | None, *, when: When, output: str, home: Path) -> None:
    """Figures, open orders, own state, limits and kills of the instance NAME."""
    from tradetape.sinks import travel

    store, schemas = open_record(home)
    _show(travel.instance_at(store, schemas, name, when, environment=environment, account=account), output)


@state.command("position")
@click.argument("name")
@click.argument("trading_pair", default="")
@click.option("--timeline", is_flag=True, help="P&L after every event that changed a figure of TRADING_PAIR.")
@_ENVIRONMENT
@_ACCOUNT
@_when
@output_option
@home_option
def position(
    name: str,
    trading_pair: str,
    timeline: bool,
    environment: str,
    account: str | None,
    *,
    when: When,
    output: str,
    home: Path,
) -> None:
    """Positions of the instance NAME, all or that in TRADING_PAIR: cost, FIFO lots, mark, P&L."""
    from tradetape.sinks import travel

    narrowed: dict[str, Any] = {"environment": environment, "account": account}
    if timeline and not trading_pair:
        raise TradetapeError("a timeline of which position?", hint=f"give its pair: state position {name} BASE-QUOTE")
    store, schemas = open_record(home)
    if not timeline:
        _show(travel.position_at(store, schemas, name, trading_pair, when, **narrowed), output)
        return
    rows = travel.position_timeline(store, schemas, name, trading_pair, when, **narrowed)
    columns = ("ts_utc", "event_type", "net_base", "avg_cost", "mark_price", "realised_quote", "unrealised_quote")
    answers.show(rows, columns, output)


@state.command("order")
@click.argument("order_id")
@_when
@output_option
@home_option
def order(order_id: str, *, when: When, output: str, home: Path) -> None:
    """The order with the client order id ORDER_ID, as its own last event left it."""
    from tradetape.sinks import travel

    store, schemas = open_record(home)
    _show(travel.order_at(store, schemas, order_id, when), output)


@state.command("portfolio")
@click.argument("name", default="all")
@_ENVIRONMENT
@_when
@output_option
@home_option
def portfolio(name: str, environment: str, *, when: When, output: str, home: Path) -> None:
    """Figures of the portfolio NAME [all], by environment and quote asset; folds every partition from its beginning."""
    from tradetape.sinks import portfolio_travel

    store, schemas = open_record(home)
    _show(portfolio_travel.portfolio_at(store, schemas, name, when, environment=environment), output)


@click.command()
@click.option("--list", "list_snapshots", is_flag=True, help="List those of this version instead.")
@home_option
def snapshot(list_snapshots: bool, home: Path) -> None:
    """Keep the state of every raw partition after its last stored record: questions about the past begin there."""
    from tradetape.sinks import raws, snapshots

    store, schemas = open_record(home)
    if list_snapshots:
        found = snapshots.listing(store)
    else:
        written = (snapshots.write(store, number, last, schemas) for number, last in raws.last_stored(store).items())
        found = [each for each in written if each is not None]
        if not found:
            click.echo("nothing new is stored since the last snapshots")
            return
    head = ("partition", "offset", "last_event", "records", "sha256")
    answers.table([head, *((*each.last[:3], each.records, each.sha256) for each in found)])


COMMANDS: tuple[click.Command, ...] = (state, snapshot)


def _show(answer: Mapping[str, Any], output: str) -> None:
    if output == "json":
        click.echo(json.dumps(answer, indent=2))
        return
    for number, found in enumerate(answer["found"]):
        if number:
            click.echo()
        answers.table([("field", "value"), *_leaves(found, "")])


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Path and value of everything in a document; an empty list or object is shown as it is."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}".lstrip("."))
    elif isinstance(value, list) and value:
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{path}[{number}]")
    else:
        yield path, value
