"""``tradetape gateway``: canonical events over HTTP."""

from __future__ import annotations

from pathlib import Path

import click

from tradetape.infra.cli.options import home_option

_FOLDER = "gateway"


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8620, show_default=True, help="0 takes any free one.")
@click.option("--tokens", type=click.Path(path_type=Path), help="Who may post [HOME/gateway/tokens.toml].")
@click.option("--spool", type=click.Path(path_type=Path), help="Where events wait for Kafka [HOME/gateway/spool].")
@home_option
def gateway(host: str, port: int, tokens: Path | None, spool: Path | None, home: Path) -> None:
    """Take canonical events in over HTTP: POST /v1/events. Stops on SIGTERM, after the requests in work.

    Answers 202 once Kafka has the events, or the spool on disk while Kafka is away.
    """
    import logging

    from tradetape.infra import settings
    from tradetape.producers.gateway.main import Options, serve

    found = settings.load(home, require=("bootstrap_servers", "registry_url"))
    folder = found.home / _FOLDER
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("tradetape.gateway").setLevel(logging.INFO)
    logging.getLogger("tradetape.kafka").setLevel(logging.ERROR)  # what it warns of, the gateway says itself
    serve(
        Options(
            tokens or folder / "tokens.toml",
            spool or folder / "spool",
            found.bootstrap_servers,
            found.registry_url,
            host,
            port,
        ),
        click.echo,
    )


COMMANDS: tuple[click.Command, ...] = (gateway,)
