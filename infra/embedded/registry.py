"""Apicurio Registry with its Confluent-compatible API and an H2 file store, on the loopback interface."""

from __future__ import annotations

from pathlib import Path

from tradetape.infra.embedded import java
from tradetape.infra.embedded.component import Component, http_health
from tradetape.infra.stackfile import HOST, REGISTRY, StackFile

_JVM_FLAGS = (
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",  # a second faster to start; a few look-ups per schema are its whole life
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
)


def component(home: Path, stack: StackFile, program_dir: Path) -> Component:
    """The registry of ``home`` on its port of ``stack``; ``program_dir`` holds ``quarkus-run.jar``."""
    folder = home / "registry"
    return Component(
        name=REGISTRY,
        command=(java.executable(), *_JVM_FLAGS, "-jar", str(program_dir / "quarkus-run.jar")),
        cwd=folder,
        prepare=lambda: folder.mkdir(parents=True, exist_ok=True),
        env={
            "QUARKUS_HTTP_HOST": HOST,
            "QUARKUS_HTTP_PORT": str(stack.ports[REGISTRY]),
            "QUARKUS_HTTP_ACCESS_LOG_ENABLED": "false",
            # Or two homes would both want port 9000, on every interface.
            "QUARKUS_MANAGEMENT_HOST": HOST,
            "QUARKUS_MANAGEMENT_PORT": "0",
            "QUARKUS_BANNER_ENABLED": "false",
            "QUARKUS_LOG_CATEGORY__IO_APICURIO__LEVEL": "WARN",
            # Relative to the working directory. Without WRITE_DELAY=0 a kill -9 loses the last second.
            "APICURIO_DATASOURCE_URL": "jdbc:h2:file:./registry;WRITE_DELAY=0",
        },
        health=http_health(stack.ports[REGISTRY], "/apis/ccompat/v7/subjects"),
        stop_timeout=15.0,
    )
