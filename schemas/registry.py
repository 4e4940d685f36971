"""The schema registry: only ``register`` writes; everything else looks up (P-01)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from confluent_kafka.schema_registry import Schema as RegisteredSchema
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from tradetape.schemas import topics
from tradetape.schemas.catalogue import OUTPUTS, Schema, event_types, output_schema
from tradetape.schemas.compatibility import logical_changes, misreading
from tradetape.schemas.errors import TradetapeError

COMPATIBILITY = "FULL_TRANSITIVE"
NOT_FOUND, CONFLICT = 404, 409

AT_ONCE = 8
"""Requests made at the same time where many schemas are asked for."""


class UnknownSchemaId(LookupError):
    """The registry answers, and has no schema of that id."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A registry subject (TopicRecordNameStrategy) and the schema this code has for it."""

    name: str
    schema: Schema

    @property
    def text(self) -> str:
        return json.dumps(self.schema, separators=(",", ":"), ensure_ascii=False)


def subject_name(topic: str, schema: Schema) -> str:
    """TopicRecordNameStrategy: topic, dash, full record name."""
    return f"{topic}-{schema['namespace']}.{schema['name']}"


def subjects() -> Iterator[Subject]:
    """Every subject of this code: one per event type, one per output topic."""
    for event_type in event_types().values():
        yield Subject(subject_name(topics.EVENTS, event_type.schema), event_type.schema)
    for name in OUTPUTS:
        yield Subject(subject_name(topics.of_output(name), output_schema(name)), output_schema(name))


@dataclass(frozen=True, slots=True)
class SubjectState:
    """A subject as the registry has it: ``state`` is new, same, changed or refused."""

    subject: str
    state: str
    schema_id: int | None = None
    versions: tuple[int, ...] = ()
    problems: tuple[str, ...] = ()


class _NotThere(LookupError):
    """The registry answers: there is no such thing."""


class _Refused(ValueError):
    """The registry answers: the schema is incompatible."""


class Registry:
    """A Confluent-compatible registry at ``url``. Every method raises TradetapeError where it does not answer."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = SchemaRegistryClient({"url": url, "timeout": 10, "max.retries": 2, "retries.wait.ms": 200})

    def look_up(self, topic: str, schema: Schema) -> int:
        """The id under which ``schema`` is registered for ``topic``; TradetapeError also where it is not."""
        subject = Subject(subject_name(topic, schema), schema)
        try:
            return self._id_of(subject)
        except _NotThere:
            raise TradetapeError(
                f"{subject.name} is not registered at {self.url}", hint="run `tradetape schemas register`"
            ) from None

    def look_up_all(self, topic: str, schemas: Iterable[Schema]) -> list[int]:
        """The ids of ``schemas`` in their order; raises as ``look_up`` for the first that has none."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(lambda schema: self.look_up(topic, schema), schemas))

    def by_id(self, schema_id: int) -> Schema:
        """The schema of ``schema_id``. Raises UnknownSchemaId where there is no Avro record of that id."""
        try:
            with self._answers():
                found = self._client.get_schema(schema_id)
        except _NotThere:
            raise UnknownSchemaId(f"schema id {schema_id}") from None
        if found.schema_type not in (None, "AVRO") or found.schema_str is None:
            raise UnknownSchemaId(f"schema id {schema_id} is {found.schema_type}, not AVRO")
        schema = json.loads(found.schema_str)
        if not isinstance(schema, dict) or schema.get("type") != "record":
            raise UnknownSchemaId(f"schema id {schema_id} is no record")
        return schema

    def check(self, subject: Subject) -> SubjectState:
        """What registering ``subject`` would do; ``refused`` with the reasons where it must not be."""
        return self._check(subject, True)

    def _check(self, subject: Subject, may_be_there: bool) -> SubjectState:
        versions = self._versions(subject.name) if may_be_there else ()
        if not versions:
            return SubjectState(subject.name, "new")
        try:
            return SubjectState(subject.name, "same", self._id_of(subject), versions)
        except _NotThere:
            problems = [*self._logical_changes(subject, versions)] or [*self._incompatibilities(subject, versions)]
        return SubjectState(subject.name, "refused" if problems else "changed", None, versions, tuple(problems))

    def register(self, subject: Subject) -> SubjectState:
        """Register ``subject`` under FULL_TRANSITIVE and read it back; a refusal registers nothing."""
        return self._register(subject, self.check(subject))

    def _register(self, subject: Subject, state: SubjectState) -> SubjectState:
        if state.state in ("same", "refused"):
            return state
        try:
            with self._answers():
                self._client.set_compatibility(subject.name, level=COMPATIBILITY)
                schema_id = self._client.register_schema(subject.name, RegisteredSchema(subject.text, "AVRO"))
        except _Refused as error:
            return SubjectState(subject.name, "refused", None, state.versions, (str(error),))
        return SubjectState(subject.name, state.state, int(schema_id), self._versions(subject.name))

    def register_all(self, wanted: Iterable[Subject]) -> list[SubjectState]:
        """Register every one of ``wanted``; where one is refused, none is, and the states say why."""
        wanted = list(wanted)
        states = self.check_all(wanted)
        if any(state.state == "refused" for state in states):
            return states
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(self._register, wanted, states))

    def check_all(self, wanted: Iterable[Subject]) -> list[SubjectState]:
        """What registering each of ``wanted`` would do, in their order."""
        wanted = list(wanted)
        there = self._subjects()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(self._check, wanted, [subject.name in there for subject in wanted]))

    def _id_of(self, subject: Subject) -> int:
        with self._answers():
            return int(self._client.lookup_schema(subject.name, RegisteredSchema(subject.text, "AVRO")).schema_id)

    def _subjects(self) -> frozenset[str]:
        with self._answers():
            return frozenset(self._client.get_subjects())

    def _versions(self, name: str) -> tuple[int, ...]:
        try:
            with self._answers():
                return tuple(self._client.get_versions(name))
        except _NotThere:
            return ()

    def _logical_changes(self, subject: Subject, versions: Iterable[int]) -> Iterator[str]:
        for version in versions:
            for change in logical_changes(self._version(subject.name, version), subject.schema):
                yield f"version {version}: {change}"

    def _incompatibilities(self, subject: Subject, versions: Iterable[int]) -> Iterator[str]:
        wanted = RegisteredSchema(subject.text, "AVRO")
        for version in versions:
            with self._answers():
                compatible = self._client.test_compatibility(subject.name, wanted, version)
            if not compatible:
                why = _why(self._version(subject.name, version), subject.schema)
                yield f"version {version}: the registry refuses it under {COMPATIBILITY}{why}"

    def _version(self, name: str, version: int) -> Schema:
        with self._answers():
            found: Schema = json.loads(self._client.get_version(name, version).schema.schema_str)
        return found

    @contextmanager
    def _answers(self) -> Iterator[None]:
        """Turns what the client raises into the few things that can be meant."""
        try:
            yield
        except SchemaRegistryError as error:
            if error.http_status_code == NOT_FOUND:
                raise _NotThere(str(error)) from error
            if error.http_status_code == CONFLICT:
                raise _Refused(str(error)) from error
            raise self._failure(error) from error
        except Exception as error:
            # The client lets its HTTP library's errors through, and which library that is changes with its version.
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> TradetapeError:
        return TradetapeError(
            f"the schema registry at {self.url} does not answer as it should "
            f"({type(error).__name__}: {str(error)[:200]})",
            hint="check that it is up (`tradetape status`) and that TRADETAPE_REGISTRY_URL is right",
        )


def _why(before: Schema, after: Schema) -> str:
    """Which field it is that code of ``after`` cannot read in records of ``before``, or the other way round."""
    backward, forward = misreading(before, after), misreading(after, before)
    if backward:
        return f": in older records {backward}"
    return f": for older readers {forward}" if forward else ""


def register_all(registry: Registry) -> list[SubjectState]:
    """Register every schema of this code; where one is refused, none is, and the states say why."""
    return registry.register_all(subjects())
