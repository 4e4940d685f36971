"""The budgets, each with what was measured."""

from __future__ import annotations

from dataclasses import dataclass

_DIGITS = {"×": 2, "s": 2, "%": 2, "µs": 1}
"""Behind the point, by unit."""


@dataclass(frozen=True, slots=True)
class Budget:
    """A figure between ``least`` and ``most``; without either it is shown and not judged."""

    what: str
    measured: float
    least: float | None = None
    most: float | None = None
    unit: str = "×"

    @property
    def met(self) -> bool | None:
        if self.least is None and self.most is None:
            return None
        return (self.least is None or self.measured >= self.least) and (self.most is None or self.measured <= self.most)

    @property
    def promised(self) -> str:
        if self.least is not None and self.most is not None:
            return f"{self.least:g} to {self.most:g} {self.unit}"
        if self.least is not None:
            return f"≥ {self.least:g} {self.unit}"
        return "" if self.most is None else f"≤ {self.most:g} {self.unit}"

    @property
    def found(self) -> str:
        digits = _DIGITS.get(self.unit, 0)
        return f"{self.measured:,.{digits}f} {self.unit}"
