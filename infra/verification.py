"""The auditor's question: does everything that is stored follow from the original bytes that are stored with it?"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from tradetape.infra import replay
from tradetape.infra.replay import Progress
from tradetape.infra.settings import Settings
from tradetape.processors.emission import Emitted
from tradetape.processors.replay import Replay
from tradetape.sinks import strays
from tradetape.sinks.portfolio_check import Checked, PortfolioCheck
from tradetape.sinks.replay import PATIENCE, Difference, Outcome
from tradetape.sinks.snapshot_check import SnapshotCheck
from tradetape.sinks.store import Store


@dataclass(slots=True)
class Verdict:
    """What was verified: raw partitions, figures of portfolios (None: not asked, or not possible), snapshots, and rows
    where no record is.
    """

    outcomes: list[Outcome]
    portfolios: Checked | None = None
    snapshots: int = 0
    others: list[Difference] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        return all(outcome.agrees for outcome in self.outcomes) and not any(True for _ in self.differences())

    @property
    def equal(self) -> int:
        rows = sum(outcome.equal for outcome in self.outcomes)
        return rows + self.snapshots + (self.portfolios.equal if self.portfolios else 0)

    def differences(self) -> Iterator[Difference]:
        """The first of each kind, in the order in which they should be looked at."""
        yield from (outcome.first for outcome in self.outcomes if outcome.first)
        yield from self.others
        if self.portfolios is not None and self.portfolios.first is not None:
            yield self.portfolios.first


def run(found: Settings, *, partitions: Collection[int], on_progress: Progress, patience: float = PATIENCE) -> Verdict:
    """Fold ``partitions`` (empty: all) from the stored bytes and compare with everything that is stored of them.

    Figures of portfolios follow from all partitions, so they are verified only with all of them, and only where none
    has a hole. ``patience`` is how long figures may come after their verdicts, seconds. Raises what replay.run raises.
    """
    store = Store(found.clickhouse_url)
    portfolios, snapshots = PortfolioCheck(), SnapshotCheck(store)

    def observe(fold: Replay, judged: Sequence[Emitted]) -> None:
        snapshots.observe(fold, judged)
        if not partitions:
            portfolios.observe(fold, judged)

    outcomes = replay.run(
        found, from_topic=False, partitions=partitions, on_progress=on_progress, on_judged=observe, patience=patience
    )
    verdict = Verdict(
        outcomes, snapshots=snapshots.equal, others=[*snapshots.differences, *strays.find(store, patience)]
    )
    if not partitions and not any(outcome.gap for outcome in outcomes):
        last = {outcome.partition: outcome.records - 1 for outcome in outcomes}
        verdict.portfolios = portfolios.finish(store, last, patience)
    return verdict
