"""A connector in a process of its own that dies where it should, again and again."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.crash.pipeline import KILLED, READER, Pipeline, random_moment
from tests.crash.reading import OPEN, origin
from tests.forks import Process
from tests.support import eventually

from tradetape.schemas.crashpoints import VARIABLE

__all__ = ["BATCH", "RUNNER_POINTS", "SEEDS", "Reader", "origin"]

SEEDS = int(os.environ.get("TRADETAPE_SEEDS", "12"))
"""Kills: each point and a random moment at least once; `make seeds` takes more."""

BATCH = 15
RUNNER_POINTS = ("connect.polled", "connect.sent", "connect.acknowledged", "connect.saved")
LONGEST = 0.2
"""Seconds until a kill at a random moment: a reader takes what is there in about as long."""

END_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Reader:
    """How one source is read. ``module`` is below ``producers/connectors``, ``points`` are where it may die."""

    pipeline: Pipeline
    module: str
    source_id: str
    location: str
    folder: Path
    points: Sequence[str] = RUNNER_POINTS
    quote: str = ""
    batch: int = BATCH

    def kill_once(self, seed: int) -> str:
        """Follow the source until it dies; returns where: a point, or empty for a random moment."""
        rng = random.Random(seed)
        point = (*self.points, "")[seed % (len(self.points) + 1)]
        process = self._start(point=f"{point}:{rng.randint(1, 3)}" if point else "", follow=True)
        try:
            eventually(lambda: self._log.read_text() or process.poll() is not None, END_SECONDS, "it opens the source")
            if point:
                process.wait(END_SECONDS)
            else:
                random_moment(rng, LONGEST)
        finally:
            process.kill()
            code = process.wait()
        said = self._log.read_text()
        assert said.startswith(OPEN), said
        assert code == KILLED, said
        return point

    def read_to_the_end(self) -> None:
        """Take in what is left, undisturbed."""
        process = self._start(follow=False)
        assert process.wait(END_SECONDS) == 0, self._log.read_text()

    def ends(self) -> list[str]:
        """The payloads of its ``source_ended`` events in the store."""
        sql = (
            f"SELECT payload FROM tradetape.events WHERE source_id = '{self.source_id}' "
            "AND event_type = 'source_ended' ORDER BY raw_partition, raw_offset"
        )
        return [str(payload) for (payload,) in self.pipeline.store.query(sql)]

    @property
    def _log(self) -> Path:
        """What the process that was started last said."""
        return self.pipeline.home / "logs" / f"{self.source_id}.log"

    def _start(self, *, point: str = "", follow: bool) -> Process:
        self._log.write_text("")
        env = {**self.pipeline.env, VARIABLE: point} if point else self.pipeline.env
        kafka, registry = env["TRADETAPE_BOOTSTRAP_SERVERS"], env["TRADETAPE_REGISTRY_URL"]
        source = (self.module, self.source_id, self.location, str(self.folder), self.quote, str(self.batch))
        arguments = (kafka, registry, *source, "follow" if follow else "")
        return self.pipeline.forks.start(READER, arguments, env, self._log)
