"""Writes what the documents say from the code into them: `python scripts/docs.py`.

What stands between `<!-- name -->` and `<!-- /name -->` in a document is made by the function of
that name in `PARTS`. A test fails when a document is not what this would write.
"""

from __future__ import annotations

import json
import re
import unicodedata
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from scripts.schemas import form_of, types_of
from tap_pancake.api import errors
from tap_pancake.api.client import USER_API
from tap_pancake.reading.lists import ListStream
from tap_pancake.rows.shaping import CUSTOMER, PERSON, PERSONAL
from tap_pancake.settings import SETTINGS
from tap_pancake.tap import TapPancake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from tap_pancake.api.client import PancakeStream

    Schema = Mapping[str, Any]

ROOT = Path(__file__).parents[1]
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

JOINS = (
    ("conversations", "messages", "page_id, conversation_id", "||--o{"),
    ("conversations", "conversation_details", "page_id, conversation_id", "||--o|"),
    ("posts", "conversations", "post_id", "|o--o{"),
    ("customers", "conversations", "page_customer.id", "|o--o{"),
    ("tags", "conversations", "page_id, tags[].id", "}o--o{"),
    ("users", "conversations", "page_id, assignee_ids[]", "}o--o{"),
    ("users", "messages", "page_id, from.uid", "|o--o{"),
    ("conversations", "ad_conversations", "page_id, id", "|o--o|"),
    ("conversations", "customer_feedbacks", "page_id, conversation_id", "|o--o{"),
    ("ads", "conversations", "page_id, ad_ids[]", "}o--o{"),
    ("ad_statistics", "conversations", "ad_ids[]", "}o--o{"),
    ("users", "user_statistics", "page_id, user_id", "|o--o{"),
    ("users", "user_engagements", "page_id, user_id", "|o--o{"),
    ("users", "multi_page_user_statistics", "user_id", "}o--o{"),
    ("tags", "tag_statistics", "page_id, tag_id", "|o--o{"),
)
"""Two streams, the columns of the second that name a row of the first, and the cardinality as
Mermaid writes it. `page_id`, which leads from every stream to `pages`, is left out."""

CONVERSATIONS = (1_000, 5_000, 20_000, 50_000, 100_000, 250_000)
"""Of a page, for the table of hours."""
NEW_IN_A_CALL = 59
"""New conversations in an answer of the list: 60 are documented, one is from the answer before."""


ANSWERS: tuple[tuple[str, int, dict[str, Any] | None], ...] = (
    *(
        (f"`error_code` {code}", 200, {"success": False, "error_code": code})
        for code in (*range(100, 109), 121, 122, 123, 125, 126, 136, 145, 190)
    ),
    ("“gói cước” without a code", 200, {"success": False, "message": "Không tìm thấy gói cước"}),
    ("another `error_code`", 200, {"success": False, "error_code": 999}),
    ("a failure without a code", 200, {"success": False}),
    ("no JSON object", 200, None),
    ("a redirect", 302, None),
    ("HTTP 401", 401, None),
    ("HTTP 403 with JSON", 403, {}),
    ("HTTP 403 without JSON", 403, None),
    ("HTTP 404 or 406", 404, None),
    ("HTTP 408 or 425", 408, None),
    ("HTTP 429", 429, None),
    ("another HTTP 4xx", 400, None),
    ("HTTP 5xx with JSON", 500, {}),
    ("HTTP 5xx without JSON", 500, None),
)
"""An answer in words, its status and its body: one of each kind that the tap tells apart."""
FAILS = "sets aside or fails"
"""What a refusal comes to that may be of what was asked for alone: the document explains it."""
DOES: dict[type[errors.PancakeError], str] = {
    errors.TransientError: f"tries up to 8 times; then {FAILS}",
    errors.UnknownRefusal: f"tries 3 times; then {FAILS}",
    errors.PageTokenRenewed: "looks for a newer one in the list of pages; then the page fails",
    errors.PageSkipped: "skips the stream of the page",
    errors.PageFailed: FAILS,
    errors.PathNotFound: "sets a conversation aside; any other stream of the page fails",
    errors.PageDeactivated: "skips the whole page",
    errors.PageUnreadable: "the whole page fails",
    errors.RunStopped: "the run ends",
}
SLOWS = "asks more slowly; after five minutes without another answer, the stream of the page fails"
"""What the tap does about HTTP 429."""


ENDS = "the run ends; if only `multi_page_user_statistics` is refused, it is skipped"
"""What the tap does if the user token may not read: without the list of pages, no page is read."""


@cache
def streams() -> dict[str, PancakeStream]:
    """Return the streams by name."""
    return {stream.name: stream for stream in TapPancake(validate_config=False).discover_streams()}


def table(head: str, rows: Iterable[Iterable[str]]) -> str:
    """Return a table as Markdown; a name in its head that ends with a colon is over numbers."""
    names = [name.strip() for name in head.split("|")]
    rule = ["---:" if name.endswith(":") else "---" for name in names]
    lines = [f"| {' | '.join(name.rstrip(':') for name in names)} |", f"|{'|'.join(rule)}|"]
    lines += [f"| {' | '.join(cells)} |" for cells in rows]
    return "\n".join(lines) + "\n"


# Streams


def streams_table() -> str:
    """Return the table of streams."""
    names: dict[type, str] = {type(stream): stream.name for stream in streams().values()}
    return table(
        "stream | endpoint | key | replication | parent | page size | one request returns",
        (
            [
                f"[`{stream.name}`]({{streams}}#{stream.name})"
                + ("" if stream.selected_by_default else " (not by default)"),
                endpoint_of(stream),
                ", ".join(f"`{name}`" for name in stream.primary_keys),
                f"`{stream.replication_key}`" if stream.replication_key else "full table",
                f"`{names[stream.parent_stream_type]}`" if stream.parent_stream_type else "",
                page_size_of(stream),
                stream.per_request,
            ]
            for stream in streams().values()
        ),
    ).replace("{streams}", "docs/streams.md")


def page_size_of(stream: PancakeStream) -> str:
    """Return how many rows a full answer of a list holds; empty if that is not known."""
    size = stream.listing.page_size if isinstance(stream, ListStream) else 0
    return str(size or "")


def endpoint_of(stream: PancakeStream) -> str:
    """Return the path of a stream, without what all paths of pages have in common."""
    if not stream.path:
        return "none"
    path = f"{USER_API}{stream.path}" if stream.api == USER_API else stream.path.split("/", 3)[3]
    return f"`{path}`"


def contents() -> str:
    """Return links to the section of each stream."""
    return " · ".join(f"[{name}](#{name})" for name in streams()) + "\n"


def diagram() -> str:
    """Return the diagram of the columns that lead from one stream to another."""
    lines = [f'    {parent} {many} {child} : "{by}"' for parent, child, by, many in JOINS]
    return "\n".join(["```mermaid", "erDiagram", *lines, "```"]) + "\n"


# Settings


def settings_table() -> str:
    """Return the table of settings."""
    return table(
        "setting | type | default | meaning",
        (
            [
                f"`{name}`",
                setting_type_of(schema),
                f"`{default_of(schema)}`" if "default" in schema else "",
                schema["description"],
            ]
            for name, schema in SETTINGS["properties"].items()
        ),
    )


def setting_type_of(schema: Schema) -> str:
    """Return the type of a setting in a user's words."""
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if form_of(schema) == "date-time":
        return "time"
    (name,) = types_of(schema)
    return f"{name}, secret" if schema.get("secret") else name


def default_of(schema: Schema) -> str:
    """Return the default as text; empty if there is none."""
    default = schema.get("default", "")
    return default if isinstance(default, str) else json.dumps(default)


# Personal data


def personal_table() -> str:
    """Return the table of personal data: which columns, and whose."""
    marked: dict[tuple[str, str], tuple[list[str], list[str]]] = {}
    for name, stream in streams().items():
        for path, kind, person in personal_of(stream.schema, CUSTOMER):
            whole, parts = marked.setdefault((name, person), ([], []))
            (parts if kind in {"text", "snippet"} else whole).append(f"`{path}`")
    return table(
        "stream | whose | the whole of | numbers and addresses in",
        (
            [f"`{name}`", person, ", ".join(whole), ", ".join(parts)]
            for (name, person), (whole, parts) in marked.items()
        ),
    )


def personal_of(schema: Schema, person: str, before: str = "") -> Iterator[tuple[str, str, str]]:
    """Return the path of each field that a schema marks, its kind, and whose it is."""
    person = schema.get(PERSON, person)
    for name, field in schema.get("properties", {}).items():
        deeper, path, whose = field, before + name, field.get(PERSON, person)
        if PERSONAL in field:
            yield path, field[PERSONAL], whose
        while "items" in deeper:
            deeper, path = deeper["items"], f"{path}[]"
            whose = deeper.get(PERSON, whose)
        yield from personal_of(deeper, whose, f"{path}.")


# Limits


def backfill() -> str:
    """Return the hours that the first run of one page takes at least, by its size."""
    rate = SETTINGS["properties"]["requests_per_second"]["default"]
    longer = (1, 3)

    def hours(count: int, batches: int) -> str:
        calls = count / NEW_IN_A_CALL + count * batches
        return f"{calls / rate / 3600:.1f}"

    return table(
        "conversations: | requests, if each has up to 29 messages: | hours:"
        " | hours, if each has 87 messages:",
        (
            [
                f"{count:,}",
                f"{round(count / NEW_IN_A_CALL + count):,}",
                *(hours(count, batches) for batches in longer),
            ]
            for count in CONVERSATIONS
        ),
    )


# Errors


def refusals() -> str:
    """Return what each refusal of the API means: what it makes the tap say and do."""
    answers: dict[tuple[str, str], list[str]] = {}
    for user_api in (False, True):
        for label, status, body in ANSWERS:
            try:
                errors.raise_for_answer(status, body, where="", user_api=user_api, permission="…")
            except errors.PancakeError as error:
                text = re.sub(r" \([^()]*\)$", "", str(error).removeprefix(": "))
                limited = isinstance(error, errors.TransientError) and error.limited
                does = SLOWS if limited else DOES[type(error)]
                if user_api and isinstance(error, errors.PageSkipped):
                    does = ENDS
                case = text.replace("the right to …", "…"), does
                answers.setdefault(case, []).append(f"user token: {label}" if user_api else label)
    return table(
        "the API answers | the tap logs | what happens",
        (
            [anchors_of(labels) + shortened(labels), text, does]
            for (text, does), labels in answers.items()
        ),
    )


def anchors_of(labels: list[str]) -> str:
    """Return an anchor for each label, such as `error-code-105` or `user-token-http-401`.

    A label of both tokens has the one of the page token alone.
    """
    plain = [unicodedata.normalize("NFKD", label).encode("ascii", "ignore") for label in labels]
    slugs = [re.sub("[^a-z0-9]+", "-", one.decode().lower()).strip("-") for one in plain]
    kept = [slug for slug in slugs if slug.removeprefix("user-token-") not in {*slugs} - {slug}]
    return "".join(f'<a id="{slug}"></a>' for slug in kept)


def shortened(labels: list[str]) -> str:
    """Return labels without those that are the same for both tokens."""
    both = [label for label in labels if f"user token: {label}" in labels]
    same = {f"user token: {label}" for label in both}
    kept = [label for label in labels if label not in same]
    if same:
        return ", ".join(kept)
    where = {label.partition("user token: ")[0] == "" for label in kept}
    bare = [label.removeprefix("user token: ") for label in kept]
    return f"with {'the user' if where == {True} else 'a page'} token: {', '.join(bare)}"


def variables_table() -> str:
    """Return the variables of the dbt project: defaults, and the comments above them."""
    text = (ROOT / "transform" / "dbt_project.yml").read_text(encoding="utf-8")
    comments = re.findall(r"((?:  # .*\n)+)  (\w+):", text.partition("\nvars:\n")[2])
    meanings = {name: " ".join(lines.replace("  # ", "").split()) for lines, name in comments}
    return table(
        "variable | default | meaning",
        (
            (f"`{name}`", variable_of(default), meanings[name])
            for name, default in yaml.safe_load(text)["vars"].items()
        ),
    )


def variable_of(default: Any) -> str:
    """Return how a default is shown: of a long list, the first entries."""
    if isinstance(default, list):
        return ", ".join(f"`{entry}`" for entry in default[:3]) + ", …" * bool(default) or "none"
    return "" if default is None else f"`{default}`"


PARTS: dict[str, Callable[[], str]] = {
    "streams": streams_table,
    "contents": contents,
    "diagram": diagram,
    "settings": settings_table,
    "personal": personal_table,
    "backfill": backfill,
    "refusals": refusals,
    "variables": variables_table,
}
_PART = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- /\2 -->)", re.DOTALL)


def current(text: str) -> str:
    """Return a document with all parts as they should be."""
    return _PART.sub(lambda found: f"{found[1]}{PARTS[found[2]]()}{found[3]}", text)


if __name__ == "__main__":
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        document.write_text(current(text), encoding="utf-8")
