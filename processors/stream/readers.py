"""Readers of records by the schema that wrote them, from the registry."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from tradetape.schemas import codec
from tradetape.schemas.catalogue import Schema
from tradetape.schemas.errors import TradetapeError
from tradetape.schemas.registry import UnknownSchemaId

log = logging.getLogger(__name__)

REGISTRY_PAUSE = 1.0
"""Seconds between attempts while the registry does not answer."""

R = TypeVar("R")


class Readers(Generic[R]):
    """What reads the records of a writer's schema, by its id: looked up once and made by ``make``.

    An unknown id is asked for again: it may be registered by then.
    """

    def __init__(self, schema_by_id: Callable[[int], Schema], make: Callable[[Schema], R]) -> None:
        self._schema_by_id = schema_by_id
        self._make = make
        self._known: dict[int, R] = {}

    async def prepare(self, values: Iterable[bytes]) -> None:
        """Look up every id in ``values`` that is not known yet; waits for a registry that does not answer."""
        for schema_id in {id_ for value in values if (id_ := _id_of(value)) is not None} - self._known.keys():
            try:
                schema = await self._look_up(schema_id)
                self._known[schema_id] = self._make(schema)
            except UnknownSchemaId:
                log.warning("schema id %d is not in the registry: its records are rejected", schema_id)

    def get(self, schema_id: int) -> R | None:
        """The reader of a prepared id, None where the registry has none."""
        return self._known.get(schema_id)

    async def _look_up(self, schema_id: int) -> Schema:
        while True:
            try:
                return await asyncio.to_thread(self._schema_by_id, schema_id)
            except TradetapeError as error:
                log.error("%s; trying again in %.0f s", error, REGISTRY_PAUSE)
                await asyncio.sleep(REGISTRY_PAUSE)


def _id_of(value: bytes | None) -> int | None:
    try:
        return codec.schema_id_of(value or b"")
    except codec.Undecodable:
        return None
