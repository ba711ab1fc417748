"""The pages of an account, from which all other streams start."""

from __future__ import annotations

from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

from singer_sdk.exceptions import SyncLifecycleSignal
from typing_extensions import override

from tap_pancake.api.client import USER_API, PancakeStream, is_id, key_names
from tap_pancake.api.errors import (
    PageFailed,
    PageIdle,
    PageSkipped,
    PageUnreadable,
    RunStopped,
    TransientError,
)
from tap_pancake.running.account import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from singer_sdk import Tap
    from singer_sdk.helpers.types import Context, Record

    from tap_pancake.api.client import Reply
    from tap_pancake.running.run import Run

    Row = dict[str, Any]
    Listed = dict[str, list[Row]]

_SERVER_ERROR = 500
# Maximum number of new pages that are named in the log.
_NAMED = 5

NO_PAGE = "The account has no activated page: activate one in Pancake"
ACTIVATED = "activated"
"""Category of the pages in use. Pages of other categories have no page token (reference, 6)."""


def listed_pages(body: Mapping[str, Any]) -> Listed:
    """Return the pages in an answer of list-pages, in any form that was seen or documented.

    Returns:
        Category to pages. The documented form has no categories: all its pages count as activated.

    Raises:
        RunStopped: the answer has an unknown form. The message shows keys, never values.
    """
    groups = body.get("categorized", body.get("categorized_pages"))
    if isinstance(groups, list) and all(isinstance(group, dict) for group in groups):
        groups = {str(group.get("group")): group.get("pages") for group in groups}
    if groups is None and isinstance(body.get("pages"), list):
        groups = {ACTIVATED: body["pages"]}
    if not isinstance(groups, dict):
        msg = (
            f"pages: the answer has no list of pages (it has: {key_names(body)}): the API may have"
            " changed, please report this"
        )
        raise RunStopped(msg)
    activated = groups.get(ACTIVATED)
    if activated is None:
        activated = []
    if not isinstance(activated, list) or not all(map(_is_page, activated)):
        # A page without an id cannot be read, and would be missing without a message.
        msg = (
            "pages: the answer has activated pages without `id`: the API may have changed, please"
            " report this"
        )
        raise RunStopped(msg)
    return {
        category: list(filter(_is_page, pages))  # `activated_page_ids` has only ids
        for category, pages in groups.items()
        if isinstance(pages, list)
    }


def _is_page(page: object) -> bool:
    return isinstance(page, dict) and is_id(page.get("id"))


def tokens_of(listed: Listed) -> dict[str, str]:
    """Return page id to page token, for the listed pages that have a token."""
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
    """`GET /api/v1/pages`: all pages of the user, in one answer."""

    name = "pages"
    path = "/pages"
    per_request = "all pages"
    api = USER_API
    primary_keys = ("id",)

    def __init__(self, tap: Tap, run: Run) -> None:
        """Register list-pages as the source of newer page tokens."""
        super().__init__(tap, run)
        if isinstance(self.config.get("access_token"), str):
            run.redactor.learn([self.config["access_token"]])
            run.tokens.relist = self.list_pages

    @override
    def ask(
        self, url: str, params: Mapping[str, Any], context: Context | None, token: str
    ) -> Reply:
        """Send one request; an empty list is a fault if earlier runs have read pages.

        Raises:
            PancakeError: the answer is an error, or is empty though earlier runs have read pages.
        """
        reply = super().ask(url, params, context, token)
        known = self.run.account.pages_in_state.difference(
            self.config.get("page_access_tokens") or {}
        )
        if known and not any(listed_pages(reply.body).values()):
            msg = (
                "pages: the list of pages is empty, though earlier runs have read pages: run the"
                " tap again later, or check in Pancake whether the user of `access_token` was"
                " removed from all pages"
            )
            raise TransientError(msg)
        return reply

    def list_pages(self) -> Listed:
        """Request all pages, and keep their tokens and countries."""
        listed = listed_pages(self.fetch(None, None))
        self.run.tokens.learn(tokens_of(listed))
        if self.run.protection is not None:
            for page in chain.from_iterable(listed.values()):
                self.run.protection.learn(page)
        return listed

    @cached_property
    def listed(self) -> Listed:
        """All pages, requested once in a run; empty without a user token."""
        return self.list_pages() if self.config.get("access_token") else {}

    @cached_property
    def chosen(self) -> dict[str, Row]:
        """The pages to read, by id, for all shards together.

        These are the pages of `page_ids`, or all pages that are activated or have a token in the
        settings. A page that is not listed has only its id.
        """
        activated = [str(page["id"]) for page in self.listed.get(ACTIVATED, [])]
        known = dict.fromkeys([*activated, *(self.config.get("page_access_tokens") or {})])
        chosen = dict.fromkeys(self.config.get("page_ids") or known)
        return {one: self._all.get(one, {"id": one}) for one in chosen if one in known}

    @cached_property
    def _all(self) -> dict[str, Row]:
        """All listed pages, by id, with their category."""
        # If a page is listed twice, its entry in the category `activated` is used.
        listed = sorted(self.listed.items(), key=lambda one: one[0] == ACTIVATED)
        return {
            str(page["id"]): {"category": category, **page}
            for category, pages in listed
            for page in pages
        }

    @cached_property
    def readable(self) -> dict[str, Row]:
        """The pages that this run reads, by id: the chosen pages of its shard."""
        shard = self.run.shard
        return {page_id: page for page_id, page in self.chosen.items() if shard.has_page(page_id)}

    def unreadable(self) -> Iterator[tuple[str, PageFailed]]:
        """Yield each page of `page_ids` that cannot be read, with the reason."""
        for page_id in dict.fromkeys(self.config.get("page_ids") or []):
            if page_id in self.chosen or not self.run.shard.has_page(page_id):
                continue
            problem = (
                f"is {self._all[page_id]['category']} in Pancake: activate it there, or remove it"
                " from `page_ids`"
                if page_id in self._all
                else "is not in this account: correct the id, or give its token in"
                " `page_access_tokens`"
            )
            yield page_id, PageFailed(f"page {page_id} of `page_ids` {problem}")

    def unknown_page_warnings(self) -> Iterator[str]:
        """Yield a warning for each page in other settings that is not in the account."""
        tokens = self.config.get("page_access_tokens") or {}
        known = self._all.keys() | tokens.keys()
        for page_id in sorted((self.config.get("sip_package_ids") or {}).keys() - known):
            yield (
                f"setting `sip_package_ids` has page {page_id}, which is not there: correct the id"
            )
        for page_id in sorted(tokens.keys() - self._all.keys()) if self.listed else ():
            yield (
                f"setting `page_access_tokens` has page {page_id}, which is not in the account of"
                " `access_token`: correct the id, unless the page is of another account"
            )

    def records(self) -> Iterator[Record]:
        """Yield the records of the pages to read."""
        for page in self.readable.values():
            record = self.shape(page, None)
            if record is not None:
                yield record

    @override
    def get_records(self, context: Context | None) -> Iterable[Record]:
        for warning in self.unknown_page_warnings():
            self.logger.warning("%s", warning)
        for page_id, problem in self.unreadable():
            self.run.page_failed(problem, self.name, None)
            self._note_missing(page_id, Status.FAILED, str(problem))
        if not self.config.get("page_ids") and not self.chosen:
            self.logger.warning(NO_PAGE)
        self.run.progress.expect(len(self.readable))
        self.run.account.expect({one: page.get("name") for one, page in self.readable.items()})
        self._compare_with_state()
        yield from self.records()
        self.run.account.of(self.name, None).is_over = True
        self.run.lanes.finish()

    def _note_missing(self, page_id: str, status: Status, reason: str) -> None:
        """Record in the account of the run why a page is not read."""
        name = self._all.get(page_id, {}).get("name")
        self.run.account.missing(page_id, name, status, reason)

    def _compare_with_state(self) -> None:
        """Log the pages that earlier runs have read and that are gone, and the new pages."""
        known = self.run.account.pages_in_state
        if not self.config.get("page_ids"):  # otherwise the other pages are left out on purpose
            for page_id in sorted(known - self.chosen.keys()):
                category = self._all.get(page_id, {}).get("category")
                where = (
                    f"is {category} in Pancake" if category else "is not in this account any more"
                )
                text = (
                    f"page {page_id} {where}, though earlier runs have read it: if this is"
                    " intended, name the others in `page_ids`, or remove it from the state"
                )
                self.logger.warning("%s", text)
                self._note_missing(page_id, Status.GONE, text)
        new = [page for page_id, page in self.readable.items() if page_id not in known]
        if known and new:
            named = ", ".join(f"{page['id']} ({page.get('name')})" for page in new[:_NAMED])
            self.logger.info(
                "New since the last run: %s%s", named, ", …" if len(new) > _NAMED else ""
            )

    @override
    def get_child_context(self, record: Record, context: Context | None) -> Context:
        return {
            "page_id": record["id"],
            "platform": record.get("platform"),
            "timezone": record.get("timezone"),
            "added": record.get("inserted_at"),
        }

    @override
    def sync_children(self, context: Context) -> None:
        """Read all streams of a page in its own lane."""
        if self.ABORT_AT_RECORD_COUNT is None:
            self.run.lanes.start(lambda: self._read_page(context))
        else:  # the SDK's dry run, which ends a stream after a number of records
            self._read_page(context)

    def _read_page(self, context: Context) -> None:
        """Read all streams of a page, and record its progress."""
        page_id = context["page_id"]
        self.run.progress.begin(page_id)
        self.run.account.begin(page_id)
        try:
            self._read_streams(context)
            self.run.account.over(page_id)
            self.run.streams["sync_runs"].write_page(page_id)
        finally:
            self.run.log_skipped(page_id)
            self.run.lanes.forget(page_id)
            self.run.progress.end(page_id)

    def _read_streams(self, context: Context) -> None:
        """Read the streams of a page; if one fails, the others go on.

        If two streams in a row meet the same fault of the connection or of a gateway, the second
        one at its first request, the page ends.
        """
        before: PageFailed | None = None
        for stream in self.child_streams:
            if not isinstance(stream, PancakeStream):
                continue
            if stream.is_needed:
                self.run.answered.discard(context["page_id"])
                failure = self._read_stream(stream, context)
                first_call = context["page_id"] not in self.run.answered
                if isinstance(failure, PageUnreadable) or (
                    first_call and isinstance(failure, TransientError) and failure.is_like(before)
                ):
                    self.logger.info(
                        "page %s: the failure of %s concerns the whole page: its other streams are"
                        " not read in this run",
                        context["page_id"],
                        stream.name,
                    )
                    break
                before = failure
            # A stream that has nothing to read itself is done, too: another stream may read for it.
            for one in [stream, *stream.child_streams]:
                self.run.account.of(one.name, context["page_id"]).is_over = True

    def _read_stream(self, stream: PancakeStream, context: Context) -> PageFailed | None:
        """Read one stream of a page, and record its failure.

        Returns:
            The failure; None if there is none.
        """
        try:
            stream.sync(context)
        except SyncLifecycleSignal:
            pass  # the SDK's dry run
        except PageFailed as problem:
            failure = self.idle_or(problem, stream, context)
            if isinstance(failure, PageSkipped):
                self.run.page_skipped(failure, stream.name, context["page_id"])
            else:
                self.run.page_failed(failure, stream.name, context["page_id"])
            return failure
        except RecursionError:
            # The JSON is nested so deeply that it can be parsed, but not written.
            msg = f"{stream.place(context)}: an answer is nested too deeply"
            failed = PageFailed(f"{msg}: please report this")
            self.run.page_failed(failed, stream.name, context["page_id"])
        return None

    def idle_or(
        self, failure: PageFailed, stream: PancakeStream, context: Context | None
    ) -> PageFailed:
        """Return the failure, or `PageIdle` if the page answers 500 because it has no traffic."""
        if not isinstance(failure, TransientError) or failure.status != _SERVER_ERROR:
            return failure
        if context is None or not stream.fails_when_idle:
            return failure
        try:
            is_idle = self.run.streams["conversations"].is_idle(context)
        except PageFailed:
            return failure
        return PageIdle(stream.place(context)) if is_idle else failure
