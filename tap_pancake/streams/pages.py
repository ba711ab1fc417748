"""The pages of an account: what all other streams begin with."""

from __future__ import annotations

from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

from singer_sdk.exceptions import SyncLifecycleSignal
from typing_extensions import override

from tap_pancake.api.client import USER_API, PancakeStream, is_id, names_in
from tap_pancake.api.errors import (
    PageFailed,
    PageIdle,
    PageLost,
    PageSkipped,
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
# So many new pages are named.
_NAMED = 5

NO_PAGE = "The account has no activated page: activate one in Pancake"
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
            f"pages: the answer has no list of pages (it has: {names_in(body)}): the API may have"
            " changed, please report this"
        )
        raise RunStopped(msg)
    activated = groups.get(ACTIVATED)
    if activated is None:
        activated = []
    if not isinstance(activated, list) or not all(map(_is_page, activated)):
        # What cannot be asked for would be missing without a word.
        msg = (
            "pages: the answer has activated pages without `id`: the API may have changed, please"
            " report this"
        )
        raise RunStopped(msg)
    return {
        category: list(filter(_is_page, pages))  # `activated_page_ids` are none
        for category, pages in groups.items()
        if isinstance(pages, list)
    }


def _is_page(page: object) -> bool:
    return isinstance(page, dict) and is_id(page.get("id"))


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
    brings = "all pages"
    api = USER_API
    primary_keys = ("id",)

    def __init__(self, tap: Tap, run: Run) -> None:
        """Offer list-pages as the place of newer page tokens."""
        super().__init__(tap, run)
        if isinstance(self.config.get("access_token"), str):
            run.redactor.learn([self.config["access_token"]])
            run.tokens.relist = self.list_pages

    @override
    def ask(
        self, url: str, params: Mapping[str, Any], context: Context | None, token: str
    ) -> Reply:
        """Ask once; no page at all is a fault where earlier runs have read some.

        Raises:
            PancakeError: whatever the table of errors says about the answer, or that fault.
        """
        reply = super().ask(url, params, context, token)
        known = self.run.account.known.difference(self.config.get("page_access_tokens") or {})
        if known and not any(listed_pages(reply.body).values()):
            msg = (
                "pages: the list of pages is empty, though earlier runs have read pages: run the"
                " tap again later, or check in Pancake whether the user of `access_token` was"
                " removed from all pages"
            )
            raise TransientError(msg)
        return reply

    def list_pages(self) -> Listed:
        """Ask for all pages, and learn their tokens and countries."""
        listed = listed_pages(self.fetch(None, None))
        self.run.tokens.learn(tokens_of(listed))
        if self.run.protection is not None:
            for page in chain.from_iterable(listed.values()):
                self.run.protection.learn(page)
        return listed

    @cached_property
    def listed(self) -> Listed:
        """All pages, asked for once in a run; empty without a user token."""
        return self.list_pages() if self.config.get("access_token") else {}

    @cached_property
    def chosen(self) -> dict[str, Row]:
        """The pages to read, of all shards together, by id.

        Those of `page_ids`, or all that are activated or have their token in the settings. Of one
        that only its token in the settings tells, just the id.
        """
        activated = [str(page["id"]) for page in self.listed.get(ACTIVATED, [])]
        known = dict.fromkeys([*activated, *(self.config.get("page_access_tokens") or {})])
        chosen = dict.fromkeys(self.config.get("page_ids") or known)
        return {one: self._all.get(one, {"id": one}) for one in chosen if one in known}

    @cached_property
    def _all(self) -> dict[str, Row]:
        """All pages that are listed, by id, with their category."""
        # Of one that is listed twice, what is in use counts.
        listed = sorted(self.listed.items(), key=lambda one: one[0] == ACTIVATED)
        return {
            str(page["id"]): {"category": category, **page}
            for category, pages in listed
            for page in pages
        }

    @cached_property
    def readable(self) -> dict[str, Row]:
        """The pages that this run reads, by id: those chosen that are in its shard."""
        shard = self.run.shard
        return {page_id: page for page_id, page in self.chosen.items() if shard.has_page(page_id)}

    def unreadable(self) -> Iterator[tuple[str, PageFailed]]:
        """Say of each page of `page_ids` that is not there why it is not."""
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

    def misplaced(self) -> Iterator[str]:
        """Say of each page that other settings name, and that is not there, that it is not."""
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
        """Return the records of the pages to read."""
        for page in self.readable.values():
            record = self.shape(page, None)
            if record is not None:
                yield record

    @override
    def get_records(self, context: Context | None) -> Iterable[Record]:
        for warning in self.misplaced():
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
        """Note in the account why a page is not there to be read."""
        name = self._all.get(page_id, {}).get("name")
        self.run.account.missing(page_id, name, status, reason)

    def _compare_with_state(self) -> None:
        """Name the pages that earlier runs have read and that are not there, and the new ones."""
        known = self.run.account.known
        if not self.config.get("page_ids"):  # else the others are left out on purpose
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
        """Read all of one page, in a lane of its own."""
        if self.ABORT_AT_RECORD_COUNT is None:
            self.run.lanes.start(lambda: self._read_page(context))
        else:  # the SDK's dry run, which ends a stream after so many records
            self._read_page(context)

    def _read_page(self, context: Context) -> None:
        """Read all of a page, and note that it is under way."""
        page_id = context["page_id"]
        self.run.progress.begin(page_id)
        self.run.account.begin(page_id)
        try:
            self._read_streams(context)
            self.run.account.over(page_id)
            self.run.streams["sync_runs"].tell(page_id)
        finally:
            self.run.tell_skipped(page_id)
            self.run.lanes.forget(page_id)
            self.run.progress.end(page_id)

    def _read_streams(self, context: Context) -> None:
        """Read a page's streams; one that fails ends for this page, and the others go on.

        If two in a row meet the same fault of the connection or of what is before the API, the
        second one at its first call, the page ends.
        """
        before: PageFailed | None = None
        for stream in self.child_streams:
            if not isinstance(stream, PancakeStream):
                continue
            if stream.is_wanted:
                self.run.answered.discard(context["page_id"])
                failure = self._read_stream(stream, context)
                if isinstance(failure, PageLost):
                    break
                first_call = context["page_id"] not in self.run.answered
                if first_call and isinstance(failure, TransientError) and failure.is_like(before):
                    break
                before = failure
            # One that is not wanted is read by one before it, or by nobody.
            for one in [stream, *stream.child_streams]:
                self.run.account.of(one.name, context["page_id"]).is_over = True

    def _read_stream(self, stream: PancakeStream, context: Context) -> PageFailed | None:
        """Read one stream of a page, and note what it failed at.

        Returns:
            That, if it did fail.
        """
        try:
            stream.sync(context)
        except SyncLifecycleSignal:
            pass  # of a dry run
        except PageFailed as problem:
            failure = self.judged(problem, stream, context)
            if isinstance(failure, PageSkipped):
                self.run.page_skipped(failure, stream.name, context["page_id"])
            else:
                self.run.page_failed(failure, stream.name, context["page_id"])
            return failure
        except RecursionError:
            # Of what is nested so deeply that it can just be read, but not be passed on.
            msg = f"{stream.place(context)}: an answer is nested too deeply"
            failed = PageFailed(f"{msg}: please report this")
            self.run.page_failed(failed, stream.name, context["page_id"])
        return None

    def judged(
        self, failure: PageFailed, stream: PancakeStream, context: Context | None
    ) -> PageFailed:
        """Return a failure, or that the page has no traffic if it answers 500 because of that."""
        if not isinstance(failure, TransientError) or failure.status != _SERVER_ERROR:
            return failure
        if context is None or not stream.fails_when_idle:
            return failure
        try:
            is_idle = self.run.streams["conversations"].is_idle(context)
        except PageFailed:
            return failure
        return PageIdle(stream.place(context)) if is_idle else failure
