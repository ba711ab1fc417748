"""Runs a command and measures what it used: `python -I -S shim.py RESULT SECONDS COMMAND…`.

A process inherits the peak memory of the process that starts it, even across an exec. So this small
Python starts the command, and not the benchmark itself. After SECONDS the command is ended.
"""

import json
import os
import signal
import sys
import time


def main() -> None:
    """Run the command with the standard streams unchanged, and write the measurement as JSON."""
    result, seconds, *command = sys.argv[1:]
    began = time.monotonic()
    child = os.posix_spawnp(command[0], command, os.environ, setsid=True)
    ended_by = []

    def end(number: int, _: object) -> None:
        """End the command and its children."""
        ended_by.append(number)
        os.killpg(child, signal.SIGKILL)

    for number in (signal.SIGALRM, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    signal.alarm(int(seconds))
    _, status, usage = os.wait4(child, 0)
    wall = time.monotonic() - began
    signal.alarm(0)
    with open(result, "w", encoding="utf-8") as file:  # noqa: PTH123 - pathlib would cost memory
        json.dump(
            {
                "wall": wall,
                "cpu": usage.ru_utime + usage.ru_stime,
                "peak_mb": usage.ru_maxrss / 1024,
                "code": os.waitstatus_to_exitcode(status),
                "ended": bool(ended_by),
            },
            file,
        )


if __name__ == "__main__":
    main()
