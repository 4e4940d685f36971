"""The bridge's loop: alerts that order a kill become kills, kills are told outside Kafka, silence is written down."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from confluent_kafka import OFFSET_STORED, Consumer, KafkaError, KafkaException, Message, TopicPartition

from tradetape.producers.bridge import orders, silence
from tradetape.producers.bridge.broadcast import broadcast
from tradetape.producers.bridge.reading import Reader
from tradetape.producers.bridge.silence import SECOND, Watchdog
from tradetape.producers.emitter import Emitter
from tradetape.schemas import topics
from tradetape.schemas.crashpoints import reach
from tradetape.schemas.errors import TradetapeError
from tradetape.schemas.registry import Registry

GROUP = "tradetape-bridge"

LOOK_BACK_SECONDS = 3_600
"""After a start, who has been silent for longer than this is not known any more."""

CONTROL = 0
"""The partition where control records are read: it has a copy of each."""

POLL_SECONDS = 0.2
JUDGE_SECONDS = 1.0
TELL_SECONDS = 1.0
"""Before a kill that somebody did not take is told again."""
MARK_SECONDS = 60.0
ANSWER_SECONDS = 10.0
BATCH = 10_000

WRITES = ("kill_ordered", silence.SILENT, silence.RETURNED)

Notify = Callable[[Mapping[str, Any]], None]
"""Told of each kill, whoever ordered it: the ``kill_ordered`` event. Raises TradetapeError where it was not taken."""

_LOG = logging.getLogger(__name__)


class Bridge:
    """Reads ``tradetape.alerts`` and ``tradetape.events``, appends control records.

    At least once. A kill is committed as read after Kafka has its copies, and a copy that comes again has the same id,
    which the processor recognises. How far kills were told to ``notify`` is marked after they took them; while one does
    not, Kafka's kills go on. ``clock`` gives seconds since 1970.

    Raises TradetapeError where Kafka or the registry fails: begin again with a new one.
    """

    def __init__(
        self, bootstrap_servers: str, registry_url: str, *, clock: Callable[[], float], notify: Iterable[Notify] = ()
    ) -> None:
        self._clock = clock
        self._notify = tuple(notify)
        self._emitter = Emitter(bootstrap_servers, registry_url, client_id=GROUP, ahead=False)
        self._emitter.look_up(WRITES)
        self._reader = Reader(Registry(registry_url))
        common = {"bootstrap.servers": bootstrap_servers, "enable.auto.commit": False, "fetch.wait.max.ms": 100}
        self._alerts = Consumer({**common, "group.id": GROUP, "auto.offset.reset": "earliest"})
        self._events = Consumer({**common, "group.id": f"{GROUP}.watchdog"})
        self._watchdog = Watchdog()
        self._judged = self._marked = 0.0
        self._told_to = 0
        self._untold: dict[str, Mapping[str, Any]] = {}
        self._tell_at = 0.0
        # No group shares them out: one that was killed would keep its part until its session ends.
        partitions = range(self._emitter.partitions())
        self._alerts.assign([TopicPartition(topics.ALERTS, number, OFFSET_STORED) for number in partitions])
        start = self._start()
        self._next = {place.partition: place.offset for place in start}
        self._events.assign(start)

    def step(self) -> None:
        """Take in what is there, tell of kills, and judge who is silent."""
        self._take_alerts(self._alerts.consume(BATCH, 0))
        for message in _good(self._events.consume(BATCH, POLL_SECONDS)):
            self._hear(message)
        now = self._clock()
        self._tell(now)
        if now - self._judged >= JUDGE_SECONDS:
            self._judged = now
            if self._is_caught_up():
                self._append(self._watchdog.due(round(now * SECOND)))
        if now - self._marked >= MARK_SECONDS:
            self._mark(now)

    def close(self) -> None:
        """Leave."""
        self._alerts.close()
        self._events.close()

    def _start(self) -> list[TopicPartition]:
        """Where to begin: with what is not told yet, and with what is not too long ago."""
        ends = {number: self._end(number) for number in range(self._emitter.partitions())}
        since = round((self._clock() - LOOK_BACK_SECONDS) * 1000)
        wanted = [TopicPartition(topics.EVENTS, number, since) for number in ends]
        found = self._asked(lambda: self._events.offsets_for_times(wanted, timeout=ANSWER_SECONDS))
        starts = {place.partition: place.offset if place.offset >= 0 else ends[place.partition] for place in found}
        control = [TopicPartition(topics.EVENTS, CONTROL)]
        (mark,) = self._asked(lambda: self._events.committed(control, timeout=ANSWER_SECONDS))
        if 0 <= mark.offset <= ends[CONTROL]:
            self._told_to = mark.offset
            self._watchdog.silent_after_seconds = int(mark.metadata or 0)
            starts[CONTROL] = min(starts[CONTROL], mark.offset)
        return [TopicPartition(topics.EVENTS, number, offset) for number, offset in starts.items()]

    def _end(self, partition: int) -> int:
        place = TopicPartition(topics.EVENTS, partition)
        _, high = self._asked(lambda: self._events.get_watermark_offsets(place, timeout=ANSWER_SECONDS))
        return int(high)

    def _take_alerts(self, messages: Iterable[Message]) -> None:
        taken = _good(messages)
        for message in taken:
            alert = self._reader.alert(message.value() or b"")
            if alert is None or alert["code"] != orders.ALERT_CODE:
                continue
            reach("bridge.read")
            try:
                copies = orders.of_alert(alert, self._emitter.partitions())
            except TradetapeError as error:
                _LOG.error("a kill that cannot be ordered, alert %s: %s", alert["event_id"], error)
                continue
            broadcast(self._emitter, copies)
            reach("bridge.ordered")
            _LOG.warning("kill %s: %s", copies[0]["payload"]["kill_id"], alert["message"])
        if taken:
            self._asked(lambda: self._alerts.commit(asynchronous=False))

    def _hear(self, message: Message) -> None:
        partition, offset = message.partition(), message.offset()
        self._next[partition] = offset + 1
        value = message.value() or b""
        instance = (message.key() or b"").decode("utf-8", "replace")
        kind = self._reader.event_type(value)
        if partition == CONTROL and kind in _CONTROLS:
            self._follow(kind, offset, value)
        if not instance or not kind:
            return
        beats, is_told = kind == "heartbeat", kind in _SILENCE
        if not (beats or is_told) and self._watchdog.knows(instance):
            self._watchdog.heard(instance, message.timestamp()[1] * 1000, f"{partition}:{offset}")
            return
        event = self._reader.event(value)
        if event is None:
            return
        if is_told:
            self._watchdog.told(kind, instance, event["payload"]["service"] or "")
            return
        self._watchdog.introduce(instance, event["environment"], event["account"])
        for service in {"", event["payload"]["service"]} if beats else {""}:
            self._watchdog.heard(instance, message.timestamp()[1] * 1000, f"{partition}:{offset}", service)

    def _follow(self, kind: str, offset: int, value: bytes) -> None:
        """A control record: limits, a kill that is to be told or a reset. What the processor rejects is none."""
        event = self._reader.event(value)
        if event is None:
            return
        payload = event["payload"]
        if kind == "limits_set":
            seconds = orders.silent_after(payload["limits"])
            if seconds is not None:
                self._watchdog.silent_after_seconds = seconds
        elif kind == "kill_reset":
            self._untold.pop(payload["kill_id"], None)
        elif self._notify and offset >= self._told_to:
            self._untold[payload["kill_id"]] = event

    def _tell(self, now: float) -> None:
        if not self._untold or now < self._tell_at:
            return
        try:
            for kill_id, kill in [*self._untold.items()]:
                for notify in self._notify:
                    notify(kill)
                del self._untold[kill_id]
        except TradetapeError as error:
            self._tell_at = now + TELL_SECONDS
            _LOG.error("%d kills are not told: %s", len(self._untold), error)
            return
        self._mark(now)

    def _mark(self, now: float) -> None:
        """Keep how far kills are told, and what limits say of silence: they may be older than the look back."""
        self._marked = now
        if not self._untold:
            seconds = str(self._watchdog.silent_after_seconds)
            place = TopicPartition(topics.EVENTS, CONTROL, self._next[CONTROL], metadata=seconds)
            self._asked(lambda: self._events.commit(offsets=[place], asynchronous=False))
            self._told_to = place.offset

    def _append(self, events: Iterable[dict[str, Any]]) -> None:
        appended = list(events)
        for event in appended:
            self._emitter.emit(event, event["event_type"])
            _LOG.info("%s: %s %s", event["event_type"], event["instance_name"], event["payload"]["service"] or "")
        if appended:
            self._emitter.flush()

    def _is_caught_up(self) -> bool:
        """Whether everything was heard that Kafka has; asked of Kafka, so that its outage is nobody's silence."""
        return all(offset >= self._end(partition) for partition, offset in self._next.items())

    def _asked(self, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except KafkaException as error:
            raise TradetapeError(f"Kafka does not answer ({error})", hint="start it with `tradetape up`") from error


_CONTROLS = frozenset({"limits_set", "kill_ordered", "kill_reset"})
_SILENCE = frozenset({silence.SILENT, silence.RETURNED})


def _good(messages: Iterable[Message]) -> list[Message]:
    """Those that are records. Raises TradetapeError for an error that the client does not get over by itself."""
    good = []
    for message in messages:
        error = message.error()
        if error is None:
            good.append(message)
        elif error.fatal() or error.code() in _LASTING:
            raise TradetapeError(f"Kafka: {error.str()}", hint="create the topics with `tradetape up`")
        else:
            _LOG.warning("Kafka: %s", error.str())
    return good


_LASTING = (KafkaError._FATAL, KafkaError.UNKNOWN_TOPIC_OR_PART)
"""The error in a message is never marked fatal: there its code says it."""
