"""For programs that act on the record: consumer groups with acknowledgement, retries and dead letters (S4-05).

    with Consumer("execution", bootstrap_servers="localhost:9092", registry_url="http://localhost:8081",
                  filter=lambda m: m.payload.get("decision") == "approved") as consumer:
        for message in consumer:
            submit(message.payload)
            message.ack()

``docs/guides/consume-events.md`` shows the rest.
"""

from tradetape.producers.consumer.client import Consumer
from tradetape.producers.consumer.dead_letters import DeadLetter, dead_letters
from tradetape.producers.consumer.messages import Message
from tradetape.producers.consumer.redrive import Redriven, redrive

__all__ = ["Consumer", "DeadLetter", "Message", "Redriven", "dead_letters", "redrive"]
