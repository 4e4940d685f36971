"""``tradetape reconcile``: the store against what bots keep themselves, live against paper, portfolios (S3-11)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tradetape.infra.cli import answers
from tradetape.infra.cli.options import home_option, output_option, source_options

if TYPE_CHECKING:
    from tradetape.infra.reconcile import Found
    from tradetape.sinks.reconciliation.differences import Difference
    from tradetape.sinks.reconciliation.parity import Parity

SHOWN = 20
"""Differences that a table lists of one reconciliation; JSON has all."""


class _Decimal(click.ParamType):
    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        try:
            number = Decimal(value)
        except InvalidOperation:
            self.fail(f"{value!r} is no number", param, ctx)
        if not number.is_finite() or number < 0:
            self.fail(f"{value!r} is below 0 or not finite", param, ctx)
        return number


def _said(_: click.Context, option: click.Parameter, value: str | None) -> str | None:
    if value is not None and not value.strip():
        raise click.BadParameter("it is blank", param=option)
    return value.strip() if value is not None else None


@click.command()
@click.argument("kind", required=False)
@click.argument("location", required=False)
@click.option("--config", type=click.Path(path_type=Path), help="All sources of this file [./tradetape.toml].")
@source_options
@click.option(
    "--beside", type=click.Path(path_type=Path), help="A Hummingbot database's CSV or log [its CSV, if it lies there]."
)
@click.option("--parity", nargs=2, metavar="LIVE PAPER", help="Two instances, each NAME or NAME@ENVIRONMENT.")
@click.option("--within", type=_Decimal(), default="5", show_default=True, help="Seconds between orders of a pair.")
@click.option("--price-bps", type=_Decimal(), default="0", show_default=True, help="Limit prices may differ by this.")
@click.option("--amount-pct", type=_Decimal(), default="0", show_default=True, help="Amounts may differ by this.")
@click.option("--slippage-bps", type=_Decimal(), help="Worse than paper by more is a break [slippage is only told].")
@click.option("--portfolios", is_flag=True, help="Portfolio figures against the sum of their instances.")
@click.option("--accept", metavar="REASON", callback=_said, help="Accept what is found: an event on record.")
@click.option("--by", metavar="NAME", callback=_said, help="Who accepts it.")
@click.option(
    "--patience",
    type=click.FloatRange(0, 3600),
    default=5.0,
    show_default=True,
    help="Seconds until a difference is looked at again; what is on its way is none.",
)
@output_option
@home_option
@click.pass_context
def reconcile(
    context: click.Context,
    /,
    *,
    kind: str | None,
    location: str | None,
    config: Path | None,
    legacy: bool,
    beside: Path | None,
    parity: tuple[str, str] | None,
    within: Decimal,
    price_bps: Decimal,
    amount_pct: Decimal,
    slippage_bps: Decimal | None,
    portfolios: bool,
    accept: str | None,
    by: str | None,
    patience: float,
    output: str,
    home: Path,
    **said: str,
) -> None:
    """Compare the store with the bot's native record, read again from its beginning, record by record.

    KIND and LOCATION as in `tradetape connect`, with the same options; without them all sources of ./tradetape.toml, or
    of --config. --parity compares the orders of two instances, --portfolios the figures of portfolios.

    Exit code 0: all agree, or what differs was accepted. 1: a break. 2: something could not be compared (a break
    elsewhere counts first).
    """
    from tradetape.infra import reconcile as reconciling
    from tradetape.infra import settings
    from tradetape.sinks.reconciliation.parity import Tolerance
    from tradetape.sinks.store import Store

    if (accept is None) != (by is None):
        raise click.UsageError("--accept REASON and --by NAME go together: who accepts it and why is on record")
    _check_beside(beside, kind)
    tolerance = Tolerance(within, price_bps, amount_pct, slippage_bps)
    with answers.or_cannot():
        sources = _sources(kind, location, config, said, legacy=legacy, is_other=bool(parity) or portfolios)
        needed = ("clickhouse_url", *(("bootstrap_servers", "registry_url") if accept else ()))
        stack = settings.load(home, require=needed)
        store = Store(stack.clickhouse_url)
        against = reconciling.Reconciliation(store, patience=patience)
        found = [each for source in sources for each in against.source(source, beside)]
        found += [against.parity(*parity, tolerance)] if parity else []
        found += [against.portfolios()] if portfolios else []
        moved = reconciling.accept(stack, store, found, by=by, reason=accept) if accept and by else None
    _show(found, moved, output)
    if moved is None and any(each.breaks for each in found):
        context.exit(answers.DIFFERENT)
    if any(each.error for each in found):
        context.exit(answers.CANNOT)


COMMANDS: tuple[click.Command, ...] = (reconcile,)


def _check_beside(beside: Path | None, kind: str | None) -> None:
    if beside is not None and kind != "hummingbot":
        raise click.UsageError("--beside is of one hummingbot database: give hummingbot and its LOCATION")
    if beside is not None and not beside.exists():
        raise click.UsageError(f"--beside: {beside} does not exist")


def _show(found: Sequence[Found], moved: int | None, output: str) -> None:
    from tradetape.infra import reconcile as reconciling

    if output == "json":
        click.echo(json.dumps(reconciling.document(found) | {"newly_accepted": moved or 0}, indent=2))
        return
    for line in (line for each in found for line in _lines(each)):
        click.echo(line)
    if moved is not None:
        click.echo(f"{moved:,} differences are accepted from now on; see `tradetape query baselines`")


def _sources(
    kind: str | None,
    location: str | None,
    config: Path | None,
    said: Mapping[str, str],
    *,
    legacy: bool,
    is_other: bool,
) -> Sequence[Any]:
    from tradetape.infra.cli.connect import from_file, one, refuse_of_one

    if kind is None:
        refuse_of_one(said, legacy=legacy)
        return () if is_other and config is None else from_file(config)
    if location is None or config is not None:
        raise click.UsageError("give KIND and LOCATION, or --config FILE")
    return [one(kind, location, legacy=legacy, said=said)]


def _lines(found: Found) -> Iterator[str]:
    """What a person reads of one reconciliation, the verdict last."""
    from tradetape.infra.reconcile import COUNTS
    from tradetape.sinks import results

    if found.outcome is not None:
        tallies = sorted(found.outcome.by_native_type.items())
        shown = [name for name in COUNTS if name in _ALWAYS or any(getattr(tally, name) for _, tally in tallies)]
        head = ("native type", *shown)
        yield from results.table([head, *((name, *(getattr(tally, c) for c in shown)) for name, tally in tallies)])
        deltas = [(name, *counts) for name, counts in found.outcome.deltas().items() if counts[2]]
        if deltas:
            yield from results.table([("event type", "native", "stored", "delta"), *deltas])
    if found.orders is not None:
        yield from _slippage(found.orders)
    if found.differences:
        head = ("difference", "of", "native", "stored", "what", "accepted by")
        body = [_row(found, difference) for difference in found.differences[:SHOWN]]
        yield from results.table([head, *body])
        if len(found.differences) > SHOWN:
            yield f"… and {len(found.differences) - SHOWN:,} more: --output json lists all"
    yield from found.notes
    yield results.printable(f"{found.name}: {_verdict(found)}")


_ALWAYS = ("native", "accepted", "duplicate", "rejected", "missing", "unexpected", "changed")


def _slippage(orders: Parity) -> Iterator[str]:
    from tradetape.infra.report import text
    from tradetape.schemas import numbers
    from tradetape.sinks import results

    slipped = [pair for pair in orders.pairs if pair.slippage_bps is not None]
    if slipped:
        head = ("live", "paper", "by", "pair", "side", "live price", "paper price", "slippage bps")
        body = [
            (
                *(pair.live.order_id, pair.paper.order_id, pair.by, pair.live.trading_pair, pair.live.side),
                *(
                    text(numbers.text(value)) if value is not None else ""
                    for value in (pair.live.fill_price, pair.paper.fill_price, pair.slippage_bps)
                ),
            )
            for pair in slipped[:SHOWN]
        ]
        yield from results.table([head, *body])


def _row(found: Found, difference: Difference) -> tuple[str, ...]:
    accepted = found.accepted.get(difference.id)
    what = "; ".join(f"{name}: {_or_none(one)} ≠ {_or_none(other)}" for name, one, other in difference.values)
    item = difference.item if difference.item != difference.label else ""
    return (
        difference.kind,
        f"{difference.label} {item}".strip(),
        difference.native_place,
        difference.stored_place,
        what,
        f"{accepted.by}: {accepted.reason}" if accepted else "",
    )


def _verdict(found: Found) -> str:
    if found.error:
        return f"could not be compared: {found.error}"
    accepted = len(found.differences) - len(found.breaks)
    beside = f", {accepted:,} differences are accepted" if accepted else ""
    if found.breaks:
        return f"BREAK: {len(found.breaks):,} differences in {found.compared:,} compared{beside}"
    return f"agrees: {found.compared:,} compared{beside}"


def _or_none(value: str | None) -> str:
    return "nothing" if value is None else value
