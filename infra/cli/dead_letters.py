"""``tradetape dead-letters``: entries of a Quantum bot that could not be handled, and another try for them (S4-04)."""

from __future__ import annotations

import json
from types import ModuleType

import click

from tradetape.infra.cli.options import output_option
from tradetape.schemas.errors import TradetapeError

_REASON = 80
_MISSING = frozenset({"redis"})


@click.group("dead-letters")
def dead_letters() -> None:
    """Entries that the connector gave up, kept in the bot's Redis."""


@dead_letters.command("list")
@click.argument("location")
@output_option
def list_letters(location: str, output: str) -> None:
    """The dead letters at LOCATION (redis://host:port/db), oldest first."""
    letters = _module().dead_letters(location)
    for letter in letters:
        if output == "json":
            texts = [[part.decode("utf-8", "backslashreplace") for part in pair] for pair in letter.to_fields()]
            click.echo(json.dumps({"letter": letter.letter_id, **dict(texts)}))
        else:
            reason = " ".join(letter.reason.split())[:_REASON]
            place = f"{letter.stream} {letter.entry_id}"
            click.echo(f"{letter.letter_id:<18} {place}  {letter.attempts} attempts  {reason}")
    if not letters and output == "table":
        click.echo("no dead letters")


@dead_letters.command("redrive")
@click.argument("location")
@click.argument("letters", nargs=-1)
@click.option("--all", "all_letters", is_flag=True, help="All of them.")
def redrive(location: str, letters: tuple[str, ...], all_letters: bool) -> None:
    """Hand LETTERS (ids of `list`) back to the connector, which takes them in when it runs next."""
    if bool(letters) == all_letters:
        raise TradetapeError("which letters?", hint="name their ids, or give --all")
    moved = _module().redrive(location, letters)
    click.echo(f"{len(moved)} handed back; `tradetape connect quantum` takes them in")


def _module() -> ModuleType:
    try:
        from tradetape.producers.connectors.quantum import letters as quantum_letters
    except ModuleNotFoundError as error:
        if error.name not in _MISSING:
            raise
        raise TradetapeError("the Redis client is not installed", hint="install tradetape[redis]") from None
    return quantum_letters


COMMANDS = (dead_letters,)
