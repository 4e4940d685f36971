"""Guides are run: their files are written, their commands and their code executed, in a copy of the project."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("schemas", "producers", "processors", "sinks", "infra", "tests", "lib")
TIMEOUT = 180

_BLOCK = re.compile(r"^```(\w+)(?: (file|append)=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a guide: its language, the file that it is or is added to, its text."""

    language: str
    verb: str
    path: str
    text: str


def blocks(guide: Path) -> Iterator[Block]:
    """The blocks of ``guide`` in their order."""
    for language, verb, path, text in _BLOCK.findall(guide.read_text(encoding="utf-8")):
        yield Block(language, verb, path, text)


class Copy:
    """A copy of the project's code in ``folder``, with a stack home of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for room in ROOMS:
            shutil.copytree(ROOT / room, folder / room, symlinks=True)
        shutil.copy(ROOT / "pyproject.toml", folder)
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(folder / "lib"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "TRADETAPE_HOME": str(folder / "home"),
        }

    def follow(self, block: Block) -> str:
        """Do what ``block`` says; returns what it printed. Fails with all of it where a command fails."""
        if block.verb:
            path = self.folder / block.path
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a" if block.verb == "append" else "w", encoding="utf-8") as file:
                file.write(("\n" if block.verb == "append" else "") + block.text)
            return ""
        command = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}[block.language]
        done = subprocess.run(
            [*command, block.text],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"
        return done.stdout
