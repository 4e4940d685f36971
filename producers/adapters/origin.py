"""Who a source's events are from: what its records do not say about themselves."""

from __future__ import annotations

from dataclasses import dataclass, field

from tradetape.schemas.instruments import Instruments


@dataclass(frozen=True, slots=True)
class Origin:
    """One configured source.

    ``source_id`` names the native store, ``location`` says where it was read (for people). ``environment`` empty
    means: what the connector's name says. ``legacy``: records may lack correlation ids (S3-03), as those of every
    system but the canonical contract do.
    """

    source_id: str
    instance_name: str
    connector_name: str
    producer: str
    location: str = ""
    account: str = ""
    environment: str = ""
    owner: str | None = None
    ingest_source: str = ""
    legacy: bool = True
    instruments: Instruments = field(default_factory=Instruments)
