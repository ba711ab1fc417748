"""Runs the server on its own, for the demo and for trying things by hand."""

from __future__ import annotations

import argparse
import inspect
import json
import signal
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

from .account import USER_TOKEN, Account
from .dialects import DIALECTS
from .server import PancakeServer


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _arguments() -> argparse.Namespace:
    usual = inspect.signature(Account.generate).parameters
    parser = argparse.ArgumentParser(
        prog="python -m tests.pancake_api",
        description="A server that behaves like the Pancake inbox API, with invented content.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 for any free one")
    parser.add_argument("--pages", type=int, default=3, help="activated pages")
    parser.add_argument("--conversations", type=int, default=40, help="conversations of each page")
    parser.add_argument(
        "--messages", type=int, nargs=2, default=(1, 70), help="fewest and most of a conversation"
    )
    parser.add_argument(
        "--start", type=_time, default=usual["start"].default, help="nothing is older (UTC)"
    )
    parser.add_argument(
        "--end", type=_time, default=usual["end"].default, help="nothing is newer (UTC)"
    )
    parser.add_argument("--seed", type=int, default=7, help="decides all content")
    parser.add_argument(
        "--dialect", choices=sorted(DIALECTS), default="observed", help="how answers look"
    )
    parser.add_argument(
        "--rate", type=float, default=5.0, help="calls a second for each page; 0 for no limit"
    )
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--user-token", default=USER_TOKEN, help="the user token that is accepted")
    parser.add_argument(
        "--port-file", type=Path, default=argparse.SUPPRESS, help="file to write the URL to"
    )
    arguments = parser.parse_args()
    if arguments.start >= arguments.end:
        parser.error(f"--start {arguments.start} is not before --end {arguments.end}")
    return arguments


def main() -> int:
    """Serve until SIGTERM or SIGINT."""
    arguments = _arguments()
    # Before the URL is printed: its reader may send a signal at once.
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    fewest, most = arguments.messages
    account = Account.generate(
        start=arguments.start,
        end=arguments.end,
        seed=arguments.seed,
        pages=arguments.pages,
        conversations=arguments.conversations,
        messages=(fewest, most),
    )
    account.user_token = arguments.user_token
    with PancakeServer(
        account,
        dialect=arguments.dialect,
        port=arguments.port,
        rate=arguments.rate or None,
        latency=arguments.latency,
    ) as server:
        config = json.dumps({"access_token": account.user_token, "api_url": server.url})
        sys.stdout.write(f"Pancake server on {server.url}\nconfig.json for it: {config}\n")
        sys.stdout.flush()
        port_file: Path | None = getattr(arguments, "port_file", None)
        if port_file is not None:
            # In one step, so that a reader never sees half of the file.
            unfinished = port_file.with_name(f"{port_file.name}.part")
            unfinished.write_text(f"{server.url}\n", encoding="utf-8")
            unfinished.replace(port_file)
        ended.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
