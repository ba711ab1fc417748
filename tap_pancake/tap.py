"""The tap: its settings, its streams, and what the streams of one run share."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any

from singer_sdk.helpers.capabilities import PluginCapabilities, TapCapabilities
from singer_sdk.plugin_base import JSONSchemaValidator
from typing_extensions import override

from tap_pancake import settings, times
from tap_pancake.auth import PageTokens
from tap_pancake.errors import ConfigurationError, PageFailed, PageSkipped, PancakeError
from tap_pancake.interrupts import Interrupts
from tap_pancake.limits import Limits
from tap_pancake.redaction import Redactor
from tap_pancake.sdk import SDKTap
from tap_pancake.state import Bookmark, PageWalk, StateClock
from tap_pancake.state import check as check_state
from tap_pancake.streams import STREAMS, ConversationsStream, MessagesStream, PagesStream
from tap_pancake.streams.pages import tokens_of
from tap_pancake.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    import click

    from tap_pancake.client import PancakeStream


class TapPancake(SDKTap):
    """Singer tap for Pancake (pages.fm): pages, conversations, messages."""

    name = "tap-pancake"
    config_jsonschema = settings.SETTINGS
    # Not BATCH, which ignores the selection of fields; not ACTIVATE_VERSION, since `page_ids` makes
    # the only full table partial.
    capabilities = [  # noqa: RUF012 - typed by the SDK
        TapCapabilities.CATALOG,
        TapCapabilities.DISCOVER,
        TapCapabilities.STATE,
        PluginCapabilities.ABOUT,
        PluginCapabilities.STREAM_MAPS,
        PluginCapabilities.FLATTENING,
        PluginCapabilities.STRUCTURED_LOGGING,
    ]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Check the settings, then set up what streams share; nothing is asked for yet."""
        self.interrupts = Interrupts()
        self.redactor = Redactor()
        self.redactor.guard()
        self._failed: list[PageFailed] = []
        self._skipped: list[PageSkipped] = []
        self._walks: dict[str, PageWalk] = {}
        self.state_clock = StateClock(self.emit_state)
        super().__init__(*args, **kwargs)

    @override
    def discover_streams(self) -> Sequence[PancakeStream]:
        return [stream(self) for stream in STREAMS]

    # What streams share in a run

    @cached_property
    def transport(self) -> Transport:
        """Sends the calls."""
        return Transport(
            timeout=float(self.config["request_timeout"]),
            user_agent=self.config.get("user_agent") or f"tap-pancake/{self.plugin_version}",
        )

    @cached_property
    def limits(self) -> Limits:
        """Spaces the calls of each page."""
        return Limits(float(self.config["requests_per_second"]))

    @cached_property
    def tokens(self) -> PageTokens:
        """Knows the page tokens."""
        access_token = self.config.get("access_token")
        if access_token:
            self.redactor.learn([access_token])
        return PageTokens(
            self.config.get("page_access_tokens") or {},
            self.redactor,
            self._relist if access_token else None,
        )

    def begin_walk(self, page_id: str) -> PageWalk:
        """Begin to read a page's conversations and messages."""
        walk = PageWalk(
            self.config,
            conversations=self._bookmark(ConversationsStream.name, page_id),
            messages=self._bookmark(MessagesStream.name, page_id),
            now=times.text(datetime.now(UTC)),
        )
        self._walks[page_id] = walk
        return walk

    def walk_of(self, page_id: str) -> PageWalk:
        """Give the walk that is under way on a page."""
        return self._walks[page_id]

    def _bookmark(self, stream_name: str, page_id: str) -> Bookmark | None:
        """Give a stream's bookmark for a page; None if the stream is not selected."""
        stream = self.streams[stream_name]
        if not stream.selected:
            return None
        return Bookmark(
            stream.get_context_state({"page_id": page_id}),
            stream.replication_key or "",
            incremental=stream.replication_method == "INCREMENTAL",
        )

    def _relist(self) -> dict[str, str]:
        pages = self.streams[PagesStream.name]
        assert isinstance(pages, PagesStream)  # noqa: S101
        return tokens_of(pages.list_pages())

    def page_failed(self, failure: PageFailed) -> None:
        """Note that a page cannot be read; its bookmarks stay where they are."""
        self._failed.append(failure)
        self.logger.error("%s", failure)

    def page_skipped(self, refusal: PageSkipped) -> None:
        """Note that a page may not be read; its bookmarks stay where they are."""
        self._skipped.append(refusal)
        self.logger.warning("Skipped: %s", refusal)

    def raise_for_failed_pages(self) -> None:
        """End a run in which a page failed with an error.

        Raises:
            PancakeError: at least one page failed.
        """
        if self._skipped:
            self.logger.warning("Pages skipped: %d, see the warnings above", len(self._skipped))
        if self._failed:
            msg = f"pages that failed: {len(self._failed)}; all others were read: {self._failed[0]}"
            raise PancakeError(msg)

    # Settings

    @override
    def check_settings(self, *, raise_errors: bool) -> None:
        # The SDK's validator also fills in the defaults, which discovery needs too.
        errors = list(JSONSchemaValidator(self.config_jsonschema).iter_errors(self._config))
        if raise_errors:
            settings.check(self.config, errors)

    @classmethod
    @override
    def settings_from_environment(cls) -> dict[str, Any]:
        found: dict[str, Any] = {}
        schema = dict(cls.config_jsonschema)
        cls.append_builtin_config(schema)
        for name, kind in schema["properties"].items():
            try:
                read = cls.environment_setting(name, kind)
            except ValueError:
                variable = f"TAP_PANCAKE_{name.upper()}"
                msg = f"setting `{name}`: the environment variable {variable} must hold valid JSON"
                raise ConfigurationError(msg) from None
            found |= {key: settings.from_text(key, kind, value) for key, value in read.items()}
        return found

    # Beginning and end

    @override
    def load_state(self, state: dict[str, Any]) -> None:
        check_state(state)
        super().load_state(state)

    @override
    def handle_signal(self, signum: int, frame: FrameType | None) -> None:
        self.interrupts.handle(signum, frame)

    def run(self) -> None:
        """Read everything that is selected; whatever ends the run, the last STATE is written."""
        try:
            self.sync_all()
        except BrokenPipeError:
            msg = "the target closed the pipe: see its own log for the reason"
            raise PancakeError(msg) from None
        except BaseException:
            self.state_clock.write()
            raise

    @classmethod
    @override
    def invoke(  # type: ignore[override] # as in the SDK's own Tap
        cls,
        *,
        about: bool = False,
        about_format: str | None = None,
        config: Any = None,  # the SDK's type for it is private
        state: IO[str] | None = None,
        catalog: IO[str] | None = None,
    ) -> None:
        # As the SDK does it, but that files which are not JSON are an error of one line, and that
        # the run ends with a STATE.
        if about:
            cls.print_about(about_format)
            return
        cls.print_version(print_fn=cls.logger.info)
        cls(
            config=config.config,
            state=_read_object("--state", state),
            catalog=_read_object("--catalog", catalog),
            parse_env_config=config.parse_env,
        ).run()

    @classmethod
    @override
    def cb_config(cls, ctx: click.Context, param: click.Option, value: tuple[str, ...]) -> Any:
        try:
            return super().cb_config(ctx, param, value)
        except FileNotFoundError as exc:
            msg = f"--config: {exc}"
            raise ConfigurationError(msg) from None
        except (OSError, ValueError, TypeError):
            msg = f"--config: no JSON object could be read from {', '.join(value)}"
            raise ConfigurationError(msg) from None


def _read_object(option: str, file: IO[str] | None) -> dict[str, Any] | None:
    """Read the JSON object of a file that an option names.

    Raises:
        ConfigurationError: there is none in it.
    """
    if file is None:
        return None
    try:
        content = json.load(file)
    except ValueError:
        content = None
    if isinstance(content, dict):
        return content
    msg = f"{option}: the file {file.name} holds no JSON object: write it anew with the tap"
    raise ConfigurationError(msg)
