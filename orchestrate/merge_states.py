"""Make one state of those of several shards: `python merge_states.py STATE.json… > all.json`.

Takes and gives what `meltano state get` writes. A tap that is given the whole goes on with the
pages of its own shard. docs/scaling.md shows how to change the number of shards with it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

Json = dict[str, Any]

REMEDY = "give the states of shards that ran with one and the same `shard_count`, each once"


def merge(states: list[Json]) -> Json:
    """Make one state of several that have nothing in common.

    Raises:
        ValueError: two of them go on with the same, so that one of them would be lost.
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
            if content == {}:  # as of a shard that was ended before it wrote one
                print(f"merge_states: {name} is empty: is its state id right?", file=sys.stderr)
            else:
                states.append(content["singer_state"])
        merged = merge(states)
    except (AttributeError, KeyError, TypeError) as error:
        sys.exit(f"merge_states: a file is no state of `meltano state get`: {error!r}")
    except (OSError, ValueError) as error:
        sys.exit(f"merge_states: {error}")
    json.dump({"singer_state": merged}, sys.stdout)


if __name__ == "__main__":
    main()
