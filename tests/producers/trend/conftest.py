"""A bot with a ledger."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.producers.trend_ledger import Bot


@pytest.fixture
def bot(tmp_path: Path) -> Bot:
    return Bot(tmp_path)
