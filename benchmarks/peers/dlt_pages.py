"""The same extraction with dlt's REST API source, written as lines of JSON to a directory.

It follows dlt's documentation on REST sources and on performance: parallel resources, with workers
for all pages. Under a limit, some calls need more than the default of 5 attempts, and waits grow to
minutes. So it has more attempts with shorter waits. Nested values stay in their row, as in the
output of all other contestants.
"""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import dlt
from dlt.common.configuration import configspec
from dlt.common.typing import TSecretStrValue
from dlt.sources.helpers.rest_client.auth import AuthConfigBase
from dlt.sources.helpers.rest_client.paginators import BasePaginator, OffsetPaginator
from dlt.sources.rest_api import rest_api_source

if TYPE_CHECKING:
    from dlt.extract import DltSource
    from requests import PreparedRequest, Request, Response

LIST_CUT = 60
BATCH_CUT = 30
PAGE_TOKENS: dict[str, str] = {}
"""Page id → token, from list-pages. Not in the authentication, which holds settings only."""
PAGE_OF_URL = re.compile(r"/public_api/v\d/pages/([^/]+)/")


def settings(directory: Path, workers: int) -> dict[str, str]:
    """Return dlt's settings as environment variables."""
    return {
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "RUNTIME__REQUEST_MAX_ATTEMPTS": "30",
        "RUNTIME__REQUEST_MAX_RETRY_DELAY": "5",
        "EXTRACT__WORKERS": str(workers),
        "EXTRACT__MAX_PARALLEL_ITEMS": str(workers * 2),
        "DATA_WRITER__DISABLE_COMPRESSION": "true",
        "DESTINATION__FILESYSTEM__BUCKET_URL": (directory / "written").as_uri(),
    }


def learn(page: dict[str, Any]) -> dict[str, Any]:
    """Move a page's token from its row to `PAGE_TOKENS`."""
    PAGE_TOKENS[page["id"]] = page.pop("settings")["page_access_token"]
    return page


@configspec
class PageTokenAuth(AuthConfigBase):  # type: ignore[misc]
    """Adds the token that a URL needs: the user token, or the page token."""

    user_token: TSecretStrValue = TSecretStrValue("")

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Add the token that the URL needs."""
        found = PAGE_OF_URL.search(request.url or "")
        name, token = ("access_token", self.user_token)
        if found:
            name, token = ("page_access_token", PAGE_TOKENS[unquote(found[1])])
        request.prepare_url(request.url, {name: token})
        return request


class LastConversation(BasePaginator):  # type: ignore[misc]
    """The next list begins after the last conversation of this one."""

    def __init__(self) -> None:
        """Begin without a cursor."""
        super().__init__()
        self.last_id = ""

    def update_state(self, response: Response, data: list[Any] | None = None) -> None:  # noqa: ARG002
        """Take the cursor from the rows of an answer."""
        self._has_next_page = data is not None and len(data) == LIST_CUT
        if data:
            self.last_id = data[-1]["id"]

    def update_request(self, request: Request) -> None:
        """Request the conversations after the cursor."""
        request.params["last_conversation_id"] = self.last_id


class CurrentCount(OffsetPaginator):  # type: ignore[misc]
    """The next batch begins after the messages so far; a short batch is the last one."""

    def __init__(self) -> None:
        """Begin with the newest message."""
        super().__init__(
            limit=BATCH_CUT, offset_param="current_count", limit_param="limit", total_path=None
        )

    def update_state(self, response: Response, data: list[Any] | None = None) -> None:
        """Continue, unless the batch was short."""
        super().update_state(response, data)
        if data is None or len(data) < BATCH_CUT:
            self._has_next_page = False


def source_of(url: str, token: str) -> DltSource:
    """Return the source with its three resources."""
    auth = PageTokenAuth(user_token=TSecretStrValue(token))
    return rest_api_source(
        {
            "client": {"base_url": f"{url}/api/", "auth": auth},
            "resources": [
                {
                    "name": "pages",
                    "primary_key": "id",
                    "endpoint": {
                        "path": "v1/pages",
                        "data_selector": "categorized.activated",
                        "paginator": "single_page",
                    },
                    "processing_steps": [{"map": learn}],
                },
                {
                    "name": "conversations",
                    "primary_key": ["page_id", "id"],
                    "parallelized": True,
                    "endpoint": {
                        "path": "public_api/v2/pages/{resources.pages.id}/conversations",
                        "data_selector": "conversations",
                        "paginator": LastConversation(),
                    },
                },
                {
                    "name": "messages",
                    "primary_key": ["conversation_id", "id"],
                    "parallelized": True,
                    "endpoint": {
                        "path": "public_api/v1/pages/{resources.conversations.page_id}"
                        "/conversations/{resources.conversations.id}/messages",
                        "data_selector": "messages",
                        "paginator": CurrentCount(),
                    },
                },
            ],
        },
        name="pancake",
        max_table_nesting=0,
    )


def main() -> None:
    """Run the whole pipeline, or only its extraction."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--token", required=True)
    parser.add_argument("--directory", type=Path, required=True, help="for all that dlt writes")
    parser.add_argument("--workers", type=int, default=32)
    parser.add_argument("--extract-only", action="store_true")
    arguments = parser.parse_args()
    os.environ.update(settings(arguments.directory, arguments.workers))
    pipeline = dlt.pipeline(
        pipeline_name="pancake",
        pipelines_dir=str(arguments.directory / "pipelines"),
        destination="filesystem",
        dataset_name="inbox",
    )
    source = source_of(arguments.url, arguments.token)
    if arguments.extract_only:
        pipeline.extract(source)
    else:
        pipeline.run(source, loader_file_format="jsonl").raise_on_failed_jobs()


if __name__ == "__main__":
    main()
