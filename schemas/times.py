"""Times of the contract: microseconds since 1970, UTC, 2000 to 2100 (design, Contract)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
EARLIEST = (datetime(2000, 1, 1, tzinfo=UTC) - EPOCH) // MICROSECOND
LATEST = (datetime(2100, 1, 1, tzinfo=UTC) - EPOCH) // MICROSECOND


class TimeError(ValueError):
    """Not a time of the contract; ``code`` is the reason code."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def to_micros(moment: datetime) -> int:
    """Microseconds since 1970 of an aware datetime."""
    return (moment - EPOCH) // MICROSECOND


def parse(text: object) -> int:
    """An ISO-8601 UTC timestamp (Z or +00:00) as microseconds since 1970; digits past six are cut off.

    Raises TimeError with code ``ts_unparseable``, ``ts_not_utc`` (no offset, or one other than zero) or
    ``ts_out_of_range``.
    """
    if not isinstance(text, str):
        raise TimeError("ts_unparseable", f"{type(text).__name__} is not an ISO-8601 timestamp")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise TimeError("ts_unparseable", f"{text[:80]!r} is not an ISO-8601 timestamp") from None
    offset = moment.utcoffset()
    if offset is None or offset:
        raise TimeError("ts_not_utc", f"{text[:80]!r} is not UTC; write it with Z or +00:00")
    return check(to_micros(moment))


def check(micros: int) -> int:
    """``micros`` if it lies in 2000–2100; raises TimeError with code ``ts_out_of_range``."""
    if not EARLIEST <= micros < LATEST:
        raise TimeError("ts_out_of_range", f"{micros} µs since 1970 is not between 2000 and 2100")
    return micros


def text(micros: int) -> str:
    """ISO-8601 with microseconds and Z."""
    moment = EPOCH + timedelta(microseconds=micros)
    date = f"{moment.year}-{moment.month:02}-{moment.day:02}"
    return f"{date}T{moment.hour:02}:{moment.minute:02}:{moment.second:02}.{moment.microsecond:06}Z"
