"""Times on the command line."""

from __future__ import annotations

from typing import Any

import click


class Moment(click.ParamType):
    """An ISO-8601 time in UTC, as microseconds since 1970."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from tradetape.schemas import times

        if isinstance(value, int):
            return value
        try:
            return times.parse(value)
        except times.TimeError as error:
            self.fail(f"{error}, for example 2026-01-31T00:00:00Z", param, ctx)


MOMENT = Moment()
