"""Which pages are read where the work is split over several runs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# Bytes of the hash that count: enough that no shard gets more than its share.
_BYTES = 8


@dataclass(frozen=True)
class Shard:
    """One of several runs that share the pages of an account."""

    index: int
    count: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Shard:
        """Give the shard that the settings say; without them it is the only one."""
        return cls(int(config.get("shard_index") or 0), int(config.get("shard_count") or 1))

    def has_page(self, page_id: str) -> bool:
        """Tell whether a page is this shard's.

        Every page is in one shard: the one that SHA-256 of its id says, so that it does not depend
        on the other pages, on the machine, or on the version of Python.
        """
        digest = hashlib.sha256(page_id.encode()).digest()[:_BYTES]
        return int.from_bytes(digest) % self.count == self.index

    @property
    def has_account(self) -> bool:
        """Whether what belongs to no one page is this shard's."""
        return self.index == 0

    def keep(self, state: Mapping[str, Any], streams: Mapping[str, Any]) -> None:
        """Take out of a state, in place, what another shard goes on with.

        So the state of all shards together can be given to each one, see docs/scaling.md; and what
        one of them writes never holds an old bookmark of another's page.

        Args:
            state: one that was checked.
            streams: the streams of the tap, by name; those of others are left as they are.
        """
        bookmarks = state.get("bookmarks", {})
        for name in bookmarks.keys() & streams.keys():
            bookmark = bookmarks[name]
            if "partitions" in bookmark:
                bookmark["partitions"] = [
                    partition
                    for partition in bookmark["partitions"]
                    if self.has_page(partition["context"]["page_id"])
                ]
            if not self.has_account:
                bookmarks[name] = {k: v for k, v in bookmark.items() if k == "partitions"}
