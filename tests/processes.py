"""Processes that tests run, and the project's directory."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).parents[1]


def run_process(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    given: str = "",
    timeout: float = 300,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, and return its exit code and what it printed.

    Args:
        command: The program and its arguments.
        cwd: The working directory.
        env: The whole environment.
        given: The text of standard input.
        timeout: Seconds.

    Raises:
        subprocess.TimeoutExpired: The command did not end.
    """
    return subprocess.run(
        command,
        cwd=cwd,
        env=env,
        input=given,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        timeout=timeout,
    )


def output_of(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    given: str = "",
) -> str:
    """Run a command, which must succeed, and return its standard output."""
    done = run_process(command, cwd=cwd, env=env, given=given)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout
