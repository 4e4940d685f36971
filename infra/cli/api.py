"""``tradetape api``: the record over HTTP."""

from __future__ import annotations

from pathlib import Path

import click

from tradetape.infra.cli.options import home_option

_FOLDER = "api"


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8630, show_default=True, help="0 takes any free one.")
@click.option("--tokens", type=click.Path(path_type=Path), help="Who may read [HOME/api/tokens.toml].")
@home_option
def api(host: str, port: int, tokens: Path | None, home: Path) -> None:
    """Answer questions to the record over HTTP: GET /v1/events and others, read-only. Stops on SIGTERM."""
    import logging

    from tradetape.infra import settings
    from tradetape.infra.api.main import Options, serve

    found = settings.load(home, require=("clickhouse_url", "registry_url"))
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    serve(
        Options(
            tokens or found.home / _FOLDER / "tokens.toml",
            found.clickhouse_url,
            found.registry_url,
            found.bootstrap_servers,
            host,
            port,
        ),
        click.echo,
    )


COMMANDS: tuple[click.Command, ...] = (api,)
