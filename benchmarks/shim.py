"""Runs a command and says what it used: `python -I -S shim.py RESULT SECONDS COMMAND…`.

The peak that the kernel reports for a process begins at that of the process which started it, even
across an exec. So a command is started from here, a Python that has loaded next to nothing, and
not from the benchmark itself. After so many seconds the command is ended.
"""

import json
import os
import signal
import sys
import time


def main() -> None:
    """Run the command with the standard streams as they are, and write what it used as JSON."""
    result, seconds, *command = sys.argv[1:]
    began = time.monotonic()
    child = os.posix_spawnp(command[0], command, os.environ, setsid=True)
    ended_by = []

    def end(number: int, _: object) -> None:
        """End the command, and what it started."""
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
