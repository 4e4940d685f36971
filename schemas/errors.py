"""The one error type that reaches a person: what went wrong and what to do next, in one line."""

from __future__ import annotations


class TradetapeError(Exception):
    """A failure with a remedy.

    The command line prints ``message`` and ``hint`` on one line, without a traceback, and exits with
    ``exit_code``. Raise it for everything that the person running Tradetape can put right; let anything
    else propagate, because it is a bug of ours.
    """

    def __init__(self, message: str, *, hint: str = "", exit_code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message
