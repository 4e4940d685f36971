"""The disk spool: events are accepted by one completed write, and sent to Kafka in order, from there (P-07)."""

from tradetape.producers.spool.documents import to_event
from tradetape.producers.spool.patient import NotYet, PatientEmitter
from tradetape.producers.spool.spool import Health, Spool, SpoolFull

__all__ = ["Health", "NotYet", "PatientEmitter", "Spool", "SpoolFull", "to_event"]
