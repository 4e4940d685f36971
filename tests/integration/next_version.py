"""A bot of the next version, in a process of its own: its code has other schemas than the stack that is running.

Arguments: home of the stack, name of the bot. First it says what `tradetape schemas check` and `register` of its
version answer; then it records an order for each line it is given (a JSON object: what the order says beyond
``ORDER``), and says its event_id once Kafka has it. Every answer is a line of JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from tradetape.infra import settings
from tradetape.infra.cli import main as cli
from tradetape.producers.recorder import Recorder
from tradetape.schemas.errors import TradetapeError

ORDER: dict[str, Any] = {"side": "buy", "order_type": "limit", "amount_base": "2", "price": "1.5", "is_live": True}


def asked(home: str, command: str) -> dict[str, Any]:
    """Exit code, what is not as it was, and the last line of complaint of ``tradetape schemas <command>``."""
    done = CliRunner().invoke(cli.tradetape, ["--home", home, "schemas", command, "--output", "json"])
    states = [json.loads(line) for line in done.stdout.splitlines()]
    changed = {state["subject"]: state for state in states if state["state"] != "same"}
    return {"code": done.exit_code, "changed": changed, "said": done.stderr.strip()}


def say(answer: object) -> None:
    print(json.dumps(answer), flush=True)


def main(home: str, bot: str) -> None:
    say({command: asked(home, command) for command in ("check", "register")})
    found = settings.load(Path(home))
    try:
        with Recorder(
            instance_name=bot,
            producer="next",
            connector_name="kucoin",
            trading_pair="A-B",
            bootstrap_servers=found.bootstrap_servers,
            registry_url=found.registry_url,
        ) as recorder:
            for line in sys.stdin:
                recorded = recorder.order_created(**{**ORDER, **json.loads(line)})
                recorder.flush()
                say(recorded.event_id)
    except TradetapeError as error:
        say({"error": str(error), "hint": error.hint})


if __name__ == "__main__":
    main(*sys.argv[1:])
