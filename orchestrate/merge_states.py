"""Merge the states of several shards into one: `python merge_states.py STATE.json… > all.json`.

The files and the output have the form of `meltano state get`. A tap that gets the merged state
uses the pages of its own shard. docs/scaling.md shows how to change the number of shards.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

Json = dict[str, Any]

REMEDY = "give each shard's state once, all from runs with the same `shard_count`"


def merge(states: list[Json]) -> Json:
    """Merge states that have no stream of a page in common.

    Raises:
        ValueError: two states have the same stream of the same page, and one would be lost.
    """
    merged: dict[str, Json] = {}
    seen = set()
    for state in states:
        for stream, bookmark in state.get("bookmarks", {}).items():
            whole = merged.setdefault(stream, {})
            if "partitions" in bookmark:
                whole.setdefault("partitions", [])
            for part in bookmark.get("partitions", []):
                place = (stream, str(part["context"].get("page_id")))
                if place in seen:
                    msg = f"two states have the stream {stream} of page {place[1]}: {REMEDY}"
                    raise ValueError(msg)
                seen.add(place)
                whole.setdefault("partitions", []).append(part)
            own = {name: value for name, value in bookmark.items() if name != "partitions"}
            if own and whole.keys() - {"partitions"}:
                msg = f"two states have the stream {stream}: {REMEDY}"
                raise ValueError(msg)
            whole.update(own)
    return {"bookmarks": merged}


def main() -> None:
    """Merge the files that the command line names."""
    try:
        states = []
        for name in sys.argv[1:]:
            content = json.loads(Path(name).read_bytes())
            if content == {}:  # the shard was stopped before it wrote a state
                print(f"merge_states: {name} is empty: is its state id right?", file=sys.stderr)
            else:
                states.append(content["singer_state"])
        merged = merge(states)
    except (AttributeError, KeyError, TypeError) as error:
        sys.exit(f"merge_states: a file is not a state from `meltano state get`: {error!r}")
    except (OSError, ValueError) as error:
        sys.exit(f"merge_states: {error}")
    json.dump({"singer_state": merged}, sys.stdout)


if __name__ == "__main__":
    main()
