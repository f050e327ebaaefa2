"""Commands of the suite, run inside a test."""

from __future__ import annotations

import signal

import pytest

from suite.cli import main


def suite(*arguments: object) -> int:
    """Run a command in this process and return its exit code.

    A bench handles SIGTERM itself; the test runner gets its own handler back afterwards.
    """
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as exit_:
            main(list(map(str, arguments)))
    finally:
        signal.signal(signal.SIGTERM, before)
    return int(exit_.value.code or 0)
