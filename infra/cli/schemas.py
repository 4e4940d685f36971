"""``tradetape schemas``: the only way a schema gets into the registry (P-01)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tradetape.infra.cli.options import home_option, output_option

if TYPE_CHECKING:
    from tradetape.schemas.registry import Registry, SubjectState

_REFUSED = 1


@click.group()
def schemas() -> None:
    """The contract's Avro schemas in the registry."""


@schemas.command()
@home_option
@output_option
@click.pass_context
def register(context: click.Context, home: Path, output: str) -> None:
    """Register every schema of this version under FULL_TRANSITIVE; exit code 1 if one is refused.

    All are checked before the first is registered.
    """
    from tradetape.schemas.registry import register_all

    states = register_all(_registry(home))
    _report(states, output, {"new": "registered", "changed": "registered as a new version", "same": "there already"})
    _exit(context, states)


@schemas.command()
@home_option
@output_option
@click.pass_context
def check(context: click.Context, home: Path, output: str) -> None:
    """Say what `register` would do, and change nothing; exit code 1 if a schema would be refused."""
    from tradetape.schemas.registry import subjects

    states = _registry(home).check_all(subjects())
    _report(states, output, {"new": "would be registered", "changed": "would be a new version", "same": "unchanged"})
    _exit(context, states)


@schemas.command("list")
@home_option
@output_option
def list_(home: Path, output: str) -> None:
    """List the schemas of this version and what the registry has of them."""
    from tradetape.schemas.registry import subjects

    states = _registry(home).check_all(subjects())
    _report(
        states, output, {"new": "not registered", "changed": "registered, but another version", "same": "registered"}
    )


@schemas.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def docs(folder: Path) -> None:
    """Write the reference into FOLDER: event types, native types, findings, named queries, an AsyncAPI file."""
    from tradetape.infra import reference

    folder.mkdir(parents=True, exist_ok=True)
    for name, content in reference.pages().items():
        (folder / name).write_text(content, encoding="utf-8")
        click.echo(str(folder / name))


COMMANDS: tuple[click.Command, ...] = (schemas,)


def _registry(home: Path) -> Registry:
    from tradetape.infra import settings
    from tradetape.schemas.registry import Registry

    return Registry(settings.load(home, require=("registry_url",)).registry_url)


def _report(states: Sequence[SubjectState], output: str, words: dict[str, str]) -> None:
    for state in states:
        if output == "json":
            click.echo(json.dumps(asdict(state)))
            continue
        versions = f"version {state.versions[-1]}" if state.versions else ""
        schema_id = f"id {state.schema_id}" if state.schema_id is not None else ""
        said = words.get(state.state, state.state)
        click.echo(
            f"{state.subject:<52} {said:<28} {', '.join(part for part in (versions, schema_id) if part)}".rstrip()
        )
        for problem in state.problems:
            click.echo(f"  {problem}")


def _exit(context: click.Context, states: Sequence[SubjectState]) -> None:
    refused = sum(state.state == "refused" for state in states)
    if refused:
        click.echo(
            f"tradetape: {refused} of {len(states)} schemas are refused;"
            " a breaking change is a new event_version with a new record name",
            err=True,
        )
        context.exit(_REFUSED)
