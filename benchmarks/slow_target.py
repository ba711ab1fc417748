"""A slow target: `python -I -S slow_target.py BYTES_A_SECOND COMMAND…`.

It starts the command, reads its output through a pipe at this rate, and writes it to its own
standard output. It exits with the command's exit code.
"""

import os
import sys
import time

PIPE = 65_536
"""Bytes of one read, as many as a pipe holds on Linux."""
CAUGHT_UP = 0.1
"""Seconds of idle time that it may catch up on."""


def main() -> None:
    """Start the command, and read its output to the end."""
    rate, *command = sys.argv[1:]
    reading, writing = os.pipe()
    child = os.posix_spawnp(
        command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, writing, 1)]
    )
    os.close(writing)
    ready = time.monotonic()
    while part := os.read(reading, PIPE):
        sys.stdout.buffer.write(part)
        ready = max(ready, time.monotonic() - CAUGHT_UP) + len(part) / float(rate)
        time.sleep(max(0.0, ready - time.monotonic()))
    sys.stdout.buffer.flush()
    _, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
