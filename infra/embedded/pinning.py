"""Renew ``artifacts.json``: for maintainers, ``python -m tradetape.infra.embedded.artifacts --pin``."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from tradetape.infra.embedded.artifacts import PIN_FILE, Artifact, maven_context, sha256_of

_ROOTS = {
    "kafka": ("org.apache.kafka:kafka_2.13:4.3.1", "org.slf4j:slf4j-simple:1.7.36"),
    "registry": ("io.apicurio:apicurio-registry-app:3.3.3",),
}


def pin(repo_cache: Path) -> dict[str, list[dict[str, Any]]]:
    """Resolve the roots with all their dependencies and hash every file: the content of ``artifacts.json``.

    For maintainers: trusts what the repository delivers now. Downloads to ``repo_cache``.
    """
    context = maven_context(repo_cache)
    inputs, transitive = context.resolver.resolve([context.create_dependency(root) for root in _ROOTS["kafka"]])
    group, name, version = _ROOTS["registry"][0].split(":")
    registry = context.project(group, name).at_version(version).artifact(classifier="all", packaging="tar.gz")
    return {
        "kafka": [_pin(dependency.artifact) for dependency in [*inputs, *transitive]],
        "registry": [_pin(registry)],
    }


def _pin(artifact: Any) -> dict[str, Any]:
    path = artifact.resolve()
    return asdict(
        Artifact(
            group=artifact.groupId,
            name=artifact.artifactId,
            version=artifact.version,
            classifier=artifact.classifier,
            packaging=artifact.packaging,
            size=path.stat().st_size,
            sha256=sha256_of(path),
        )
    )


def main(arguments: Sequence[str]) -> int:
    """Resolve, download and hash everything; exit code 2 without ``--pin``."""
    if list(arguments) != ["--pin"]:
        click.echo("usage: python -m tradetape.infra.embedded.artifacts --pin", err=True)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        document = pin(Path(folder))
    PIN_FILE.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    click.echo(f"{PIN_FILE.name}: {sum(map(len, document.values()))} files pinned")
    return 0
