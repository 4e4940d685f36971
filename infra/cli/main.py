"""The command line ``tradetape``: one group, explicit commands, and errors in one line."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click

from tradetape.infra.cli import (
    api,
    archive,
    backup,
    connect,
    dead_letters,
    demo,
    gateway,
    ingest,
    limits,
    migrate,
    query,
    reconcile,
    repair,
    replay,
    schemas,
    simulate,
    stack,
    state,
    trades,
    verify,
    what_if,
)
from tradetape.schemas.errors import TradetapeError

_INTERRUPTED = 130
_BROKEN_PIPE = 1  # as click itself answers one


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--home", type=click.Path(path_type=Path), help="Folder of the stack and its data.")
@click.version_option(package_name="tradetape", prog_name="tradetape")
@click.pass_context
def tradetape(context: click.Context, home: Path | None) -> None:
    """The flight recorder for fleets of trading bots."""
    context.obj = {"home": home}


for _command in (
    *stack.COMMANDS,
    *ingest.COMMANDS,
    *connect.COMMANDS,
    *dead_letters.COMMANDS,
    *gateway.COMMANDS,
    *api.COMMANDS,
    *limits.COMMANDS,
    *schemas.COMMANDS,
    *query.COMMANDS,
    *repair.COMMANDS,
    *archive.COMMANDS,
    *backup.COMMANDS,
    *migrate.COMMANDS,
    *replay.COMMANDS,
    *verify.COMMANDS,
    *state.COMMANDS,
    *trades.COMMANDS,
    *what_if.COMMANDS,
    *reconcile.COMMANDS,
    *simulate.COMMANDS,
    *demo.COMMANDS,
):
    tradetape.add_command(_command)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line: the exit code. What a person can put right becomes one line on standard error."""
    try:
        code = tradetape.main(arguments, prog_name="tradetape", standalone_mode=False)
        sys.stdout.flush()
    except TradetapeError as error:
        return _complain(str(error), error.exit_code)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _complain("interrupted", _INTERRUPTED)
    except BrokenPipeError:
        # Nobody reads on. Python flushes standard output once more at exit: give it somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return _complain(f"the disk is full: cannot write {error.filename or Path.cwd()}; free space there", 1)
    return code if isinstance(code, int) else 0


def _complain(message: str, code: int) -> int:
    click.echo(f"tradetape: {' '.join(message.split())}", err=True)
    return code


def main() -> NoReturn:
    """Entry point of the console script."""
    sys.exit(run())


if __name__ == "__main__":
    main()
