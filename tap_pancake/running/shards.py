"""Which pages are read where the work is split over several runs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# Bytes of the hash that count: enough that no shard gets more than its share.
_BYTES = 8


def shard_of(page_id: str, count: int) -> int:
    """Return the index of the one shard that a page is in.

    SHA-256 of its id says which, so that it does not depend on the other pages, on the machine, or
    on the version of Python.
    """
    digest = hashlib.sha256(page_id.encode()).digest()[:_BYTES]
    return int.from_bytes(digest) % count


@dataclass(frozen=True)
class Shard:
    """One of several runs that share the pages of an account."""

    index: int
    count: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Shard:
        """Return the shard that the settings say; without them it is the only one."""
        return cls(int(config.get("shard_index") or 0), int(config.get("shard_count") or 1))

    def has_page(self, page_id: str) -> bool:
        """Tell whether a page is this shard's."""
        return shard_of(page_id, self.count) == self.index

    @property
    def has_account(self) -> bool:
        """Whether what belongs to no one page is this shard's."""
        return self.index == 0

    def keep(self, state: Mapping[str, Any]) -> None:
        """Take out of a state, in place, what another shard goes on with.

        So the state of all shards together can be given to each one, see docs/scaling.md; and what
        one of them writes never holds an old bookmark of another's page.

        Args:
            state: one that was checked. Of streams that this version does not know, parts without a
                page are shard 0's, too.
        """
        if self.count == 1:
            return
        bookmarks = state.get("bookmarks", {})
        for name, bookmark in bookmarks.items():
            if not isinstance(bookmark, dict):
                continue
            parts = bookmark.get("partitions")
            own = {"partitions": list(filter(self._has, parts))} if isinstance(parts, list) else {}
            bookmarks[name] = {**bookmark, **own} if self.has_account else own

    def _has(self, part: object) -> bool:
        context = part.get("context") if isinstance(part, dict) else None
        page_id = context.get("page_id") if isinstance(context, dict) else None
        return self.has_page(page_id) if isinstance(page_id, str) else self.has_account
