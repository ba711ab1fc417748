"""Shards: several runs that share the pages of an account."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# Bytes of the hash that are used: enough for shards of equal size.
_BYTES = 8


def shard_of(page_id: str, count: int) -> int:
    """Return the index of the shard of a page.

    It is derived from the SHA-256 of the page id. So it does not depend on other pages, on the
    machine, or on the version of Python.
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
        """Return the shard in the settings; the only shard if there are none."""
        return cls(int(config.get("shard_index") or 0), int(config.get("shard_count") or 1))

    def has_page(self, page_id: str) -> bool:
        """Return whether a page belongs to this shard."""
        return shard_of(page_id, self.count) == self.index

    @property
    def has_account(self) -> bool:
        """Whether this shard reads the streams of the account, which belong to no page."""
        return self.index == 0

    def keep(self, state: Mapping[str, Any]) -> None:
        """Keep only the entries of this shard in a state; modifies the state.

        So each shard can start from the state of all shards together (see docs/scaling.md), and
        never writes an old bookmark of a page of another shard.

        Args:
            state: a state that was checked. Entries without a page belong to shard 0, also those of
                unknown streams.
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
