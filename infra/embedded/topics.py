"""Create the topics of the catalogue in ``schemas/topics.py``."""

from __future__ import annotations

from typing import Any

from tradetape.schemas.topics import CATALOGUE

_TIMEOUT_SECONDS = 15.0


def ensure_topics(admin: Any, *, partitions: int, replication_factor: int = 1) -> list[str]:
    """Create what is missing of the catalogue and bring the settings of what exists up to date.

    ``admin`` is a ``confluent_kafka.admin.AdminClient``. The partition count of a topic that exists is never
    changed (design, Contract). Returns the names it created. Raises KafkaException.
    """
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import (
        AlterConfigOpType,
        ConfigEntry,
        ConfigResource,
        NewTopic,
        ResourceType,
    )

    wanted = [NewTopic(topic.name, partitions, replication_factor, config=dict(topic.config)) for topic in CATALOGUE]
    created: list[str] = []
    for name, future in admin.create_topics(wanted, operation_timeout=_TIMEOUT_SECONDS).items():
        try:
            future.result(_TIMEOUT_SECONDS)
            created.append(name)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
    resources = [
        ConfigResource(
            ResourceType.TOPIC,
            topic.name,
            incremental_configs=[
                ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
                for key, value in topic.config.items()
            ],
        )
        for topic in CATALOGUE
        if topic.name not in created and topic.config
    ]
    if resources:
        for future in admin.incremental_alter_configs(resources).values():
            future.result(_TIMEOUT_SECONDS)
    return created
