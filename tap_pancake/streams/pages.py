"""The pages of an account: what all other streams begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typing_extensions import override

from tap_pancake.client import USER_API, PancakeStream
from tap_pancake.errors import PageFailed, PageSkipped, RunStopped

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from singer_sdk import Tap
    from singer_sdk.helpers.types import Context, Record

    from tap_pancake.run import Run

    Row = dict[str, Any]
    Listed = dict[str, list[Row]]

ACTIVATED = "activated"
"""The list of pages that are in use; the others carry no page token (reference, section 6)."""


def listed_pages(body: Mapping[str, Any]) -> Listed:
    """Find the pages in an answer of list-pages, in each form that was seen or documented.

    Returns:
        Category to pages. The documented form has no categories: all its pages count as activated.

    Raises:
        RunStopped: it is none of these forms; the text shows keys, never values.
    """
    groups = body.get("categorized", body.get("categorized_pages"))
    if isinstance(groups, list) and all(isinstance(group, dict) for group in groups):
        groups = {str(group.get("group")): group.get("pages") for group in groups}
    if groups is None and isinstance(body.get("pages"), list):
        groups = {ACTIVATED: body["pages"]}
    if not isinstance(groups, dict):
        msg = (
            f"pages: the answer has no list of pages (it has: {', '.join(sorted(body)) or 'none'})"
            ": the API may have changed, please report this"
        )
        raise RunStopped(msg)
    return {
        category: [page for page in pages if isinstance(page, dict) and page.get("id")]
        for category, pages in groups.items()
        if isinstance(pages, list)
    }


def tokens_of(listed: Listed) -> dict[str, str]:
    """Find the page tokens in list-pages: page id to token, for the pages that have one."""
    settings = {
        str(page["id"]): page.get("settings") for pages in listed.values() for page in pages
    }
    return {
        page_id: token
        for page_id, setting in settings.items()
        if isinstance(setting, dict)
        and isinstance(token := setting.get("page_access_token"), str)
        and token
    }


class PagesStream(PancakeStream):
    """`GET /api/v1/pages`: one answer with every page that the user can see."""

    name = "pages"
    path = "/pages"
    api = USER_API
    primary_keys = ("id",)

    def __init__(self, tap: Tap, run: Run) -> None:
        """Offer list-pages as the place of newer page tokens."""
        super().__init__(tap, run)
        if isinstance(self.config.get("access_token"), str):
            run.redactor.learn([self.config["access_token"]])
            run.tokens.relist = self.list_pages

    def list_pages(self) -> Listed:
        """Ask for all pages, and learn their tokens."""
        listed = listed_pages(self.fetch(None, None))
        self.run.tokens.learn(tokens_of(listed))
        return listed

    @override
    def get_records(self, context: Context | None) -> Iterable[Record]:
        listed = self.list_pages() if self.config.get("access_token") else {}
        rows = {
            str(page["id"]): {"category": category, **page}
            for category, pages in listed.items()
            for page in pages
        }
        configured = dict.fromkeys(self.config.get("page_access_tokens") or {})
        activated = dict.fromkeys(str(page["id"]) for page in listed.get(ACTIVATED, []))
        chosen = dict.fromkeys(self.config.get("page_ids") or activated | configured)
        if not chosen:
            self.logger.warning("The account has no activated page: activate one in Pancake")
        for page_id in chosen:
            if page_id in activated or page_id in configured:
                yield self.shape(rows.get(page_id, {"id": page_id}), context)
            elif page_id in rows:
                self.run.page_failed(
                    PageFailed(
                        f"page {page_id} of `page_ids` is {rows[page_id]['category']} in Pancake:"
                        " activate it there, or take it out of `page_ids`"
                    )
                )
            else:
                self.run.page_failed(
                    PageFailed(
                        f"page {page_id} of `page_ids` is not in this account: correct the id, or"
                        " give its token in `page_access_tokens`"
                    )
                )

    @override
    def get_child_context(self, record: Record, context: Context | None) -> Context:
        return {"page_id": record["id"]}

    @override
    def sync_children(self, context: Context) -> None:
        """Read all of one page; a page that fails ends here, and the others go on.

        This is the place for reading pages side by side.
        """
        try:
            super().sync_children(context)
        except PageSkipped as refusal:
            self.run.page_skipped(refusal)
        except PageFailed as failure:
            self.run.page_failed(failure)

    @override
    def write_state(self) -> None:
        # Of the root stream the SDK asks this at the end: all below it is done.
        self.run.state_clock.write()
