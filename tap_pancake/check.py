"""`tap-pancake --test`: which streams each page's token can read, and why not the others.

The test requests the newest rows of each selected stream once, and writes no record. So a page
takes one call for each stream, some seconds at the rate limit. Pages are tested side by side.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tap_pancake.api.client import PancakeStream
from tap_pancake.api.errors import (
    PageFailed,
    PageIdle,
    PageSkipped,
    PageUnreadable,
    PancakeError,
    TransientError,
)
from tap_pancake.running.lanes import Lanes
from tap_pancake.running.progress import counted, without_facts
from tap_pancake.streams.pages import ACTIVATED, NO_PAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from singer_sdk import Stream
    from singer_sdk.helpers.types import Context

    from tap_pancake.running.run import Run
    from tap_pancake.streams.pages import PagesStream

# Maximum attempts of a call: fewer than in a run, as the user waits for the test.
_TRIES = 3
# Maximum seconds in which every answer of a page may be 429.
_MAX_REFUSED = 3.0
# Maximum characters of a page's name that are shown.
_LONGEST_NAME = 60


@dataclass
class Findings:
    """The result of the test for one page, or for all pages together."""

    readable: list[str] = field(default_factory=list)
    """Streams that can be read."""
    refusals: dict[str, PageFailed] = field(default_factory=dict)
    """Reasons why streams cannot be read, by stream."""
    untried: list[str] = field(default_factory=list)
    """Child streams that were not requested because their parent stream had no row."""
    lost: PageFailed | None = None
    """Reason why nothing can be read; None if something can."""

    def failures(self, skipped: type[PageSkipped]) -> list[PageFailed]:
        """Return the errors that would fail a run, without those of the class that it skips."""
        refusals = [*self.refusals.values(), *([self.lost] if self.lost else [])]
        return [refusal for refusal in refusals if not isinstance(refusal, skipped)]

    def is_out_of_reach(self, refusal: PageFailed) -> bool:
        """Return whether all calls so far had the same fault of the connection or of a gateway."""
        return (
            isinstance(refusal, TransientError)
            and bool(self.refusals)
            and not self.readable
            and all(map(refusal.is_like, self.refusals.values()))
        )

    def lines(self, where: str) -> Iterator[str]:
        """Yield the lines to print: a result, and an indented line for each reason."""
        asked = len(self.readable) + len(self.refusals)
        reasons: defaultdict[str, list[str]] = defaultdict(list)
        for stream, refusal in self.refusals.items():
            reasons[without_facts(_reason(refusal))].append(stream)
        if self.lost or (len(reasons) == 1 and not self.readable):
            reason = self.lost or next(iter(self.refusals.values()))
            yield f"{where}: nothing can be read: {_reason(reason)}"
            return
        if not self.refusals:
            yield f"{where}: everything can be read ({counted(asked, 'stream')})"
        else:
            count = len(self.readable) or "none"
            yield f"{where}: {count} of {counted(asked, 'stream')} can be read"
        for streams in reasons.values():
            refusal = self.refusals[streams[0]]
            what = "skipped" if isinstance(refusal, PageSkipped) else "fails"
            yield f"  {what}: {', '.join(streams)}: {_reason(refusal)}"
        if self.untried:
            yield f"  not tried: {', '.join(self.untried)}: there is no recent conversation"


def _try_maps(stream: PancakeStream, row: dict[str, Any], context: Context | None) -> None:
    record = stream.shape(row, context) if stream.is_mapped else None
    if record is not None:
        stream.try_maps(record)


def _reason(refusal: PageFailed) -> str:
    """Return the text of a refusal without page and stream, which the line has already."""
    where, colon, reason = str(refusal).partition(": ")
    return reason if colon else where


class Check:
    """A test of settings, tokens and pages."""

    def __init__(
        self,
        run: Run,
        streams: Iterable[Stream],
        print_line: Callable[[str], object],
    ) -> None:
        """Prepare without sending a request.

        Args:
            run: the run that the streams share.
            streams: all streams of the tap.
            print_line: prints a line, which contains no token.
        """
        self._run = run
        self._pages: PagesStream = run.streams["pages"]
        run.tries, run.patience = _TRIES, _MAX_REFUSED
        # The test has nothing to do at a turn, where a run writes its STATE.
        run.lanes = Lanes(self._max_pages(), lambda: None, lambda _: self._max_pages())
        self._roots = [
            stream
            for stream in streams
            if isinstance(stream, PancakeStream)
            and stream.parent_stream_type is None
            and stream is not self._pages
        ]
        self._write = print_line
        self._not_requested: set[str] = set()
        """Streams that the settings do not request for a page."""

    def make(self) -> None:
        """Request everything once, and print the results.

        Raises:
            PancakeError: a run would fail, or nothing can be read.
        """
        self._print_account()
        skipped = PageIdle if self._pages.config["fail_on_skip"] else PageSkipped
        failed: list[PancakeError] = []
        for warning in self._pages.unknown_page_warnings():
            self._say(warning)
        for _, problem in self._pages.unreadable():
            self._say(str(problem))
            failed.append(problem)
        found = []
        pages = list(self._pages.records())
        for page, answer in self._run.lanes.ahead(self._pages_ahead(pages), self._max_pages):
            findings: Findings = next(answer)
            name = page.get("name")
            named = f" ({str(name)[:_LONGEST_NAME]})" if name else ""
            for line in findings.lines(f"page {page['id']}{named}"):
                self._say(line)
            failed += findings.failures(skipped)
            found.append(findings)
        for name in sorted(self._not_requested):
            self._say(
                f"{name}: not read for pages without an entry in `sip_package_ids`: add the id of"
                " the page's SIP package there, if the page has one"
            )
        account = Findings()
        for stream in self._roots:
            self._probe(stream, None, account)
        if account.readable or account.refusals:
            for line in account.lines("all pages together"):
                self._say(line)
            failed += account.failures(skipped)
        if failed:
            problems = counted(len(failed), "problem")
            msg = f"a run would fail ({problems}): see the lines above"
            raise PancakeError(msg)
        if found and not any(findings.readable for findings in found):
            msg = "no page can be read: see the lines above"
            raise PancakeError(msg)

    def _print_account(self) -> None:
        """Print which pages the tokens of the settings give access to."""
        listed, count = self._pages.listed, len(self._pages.readable)
        if self._pages.config.get("access_token"):
            activated = len(listed.get(ACTIVATED, []))
            total = sum(map(len, listed.values()))
            self._say(
                f"The user token works: it lists {counted(total, 'page')}, {activated} activated"
            )
        chosen = " of `page_ids`" if self._pages.config.get("page_ids") else ""
        if self._run.shard.count > 1:
            chosen += f" in shard {self._run.shard.index} of {self._run.shard.count}"
        self._say(f"Pages to read{chosen}: {count}" if count or chosen else NO_PAGE)

    def _say(self, text: str) -> None:
        self._write(self._run.redactor.line(text))

    def _max_pages(self) -> int:
        return int(self._pages.config["max_parallel_pages"])

    def _pages_ahead(
        self, pages: Iterable[dict[str, Any]]
    ) -> Iterator[tuple[Any, Iterator[Findings]]]:
        """Yield each page with the iterator of its findings, which its own thread makes."""
        for page in pages:
            context = self._pages.get_child_context(page, None)
            yield page, self._run.lanes.ahead(self._check_page(one) for one in [context])

    def _check_page(self, context: Context) -> Findings:
        """Return the findings for a page."""
        findings = Findings()
        for stream in self._pages.child_streams:
            if isinstance(stream, PancakeStream):
                self._probe(stream, context, findings)
        return findings

    def _probe(self, stream: PancakeStream, context: Context | None, findings: Findings) -> None:
        """Request a stream, and its child streams for its first row, and add the results."""
        children = [
            child
            for child in stream.child_streams
            if isinstance(child, PancakeStream) and child.selected
        ]
        if findings.lost or not (stream.selected or children):
            return
        try:
            rows = stream.probe(context)
        except PageFailed as refusal:
            for each in [stream, *children]:  # no child can be read without its parent
                if each.selected:
                    self._note_refusal(each, refusal, context, findings)
            return
        if rows is None:
            if context:
                self._not_requested.add(stream.name)
            return
        if stream.selected:
            findings.readable.append(stream.name)
            if rows:
                _try_maps(stream, rows[0], context)
        for child in children:
            if rows:
                self._probe(child, stream.get_child_context(rows[0], context), findings)
            else:
                findings.untried.append(child.name)

    def _note_refusal(
        self,
        stream: PancakeStream,
        refusal: PageFailed,
        context: Context | None,
        findings: Findings,
    ) -> None:
        if isinstance(refusal, PageUnreadable) or findings.is_out_of_reach(refusal):
            findings.lost = refusal
        else:
            findings.refusals[stream.name] = self._pages.idle_or(refusal, stream, context)
