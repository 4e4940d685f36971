"""The emitter of a spool: it waits for Kafka for ever (P-06, P-07)."""

from __future__ import annotations

from tradetape.producers.emitter import Emitter
from tradetape.schemas.errors import TradetapeError


class NotYet(TradetapeError):
    """Kafka has not acknowledged everything yet; it is still being sent."""


class PatientEmitter(Emitter):
    """An Emitter that tells being late from having failed."""

    def __init__(
        self, bootstrap_servers: str, registry_url: str, *, client_id: str = "tradetape", timeout: float = 5.0
    ) -> None:
        super().__init__(
            bootstrap_servers,
            registry_url,
            client_id=client_id,
            block=False,
            timeout=timeout,
            config={"reconnect.backoff.max.ms": 1000},
        )

    def flush(self, timeout: float = 60.0) -> None:
        """As Emitter.flush; raises NotYet where all that is wrong is that ``timeout`` seconds are over."""
        try:
            super().flush(timeout)
        except TradetapeError as error:
            if self.failed:
                raise
            raise NotYet(error.message, hint=error.hint) from None
