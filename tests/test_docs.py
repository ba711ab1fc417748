"""The documents say what the code does, and lead where they say."""

from __future__ import annotations

import ast
import csv
import json
import os
import re
import signal
import sys
from datetime import UTC, datetime, timedelta
from functools import cache
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click import UsageError
from jsonschema import Draft202012Validator, FormatChecker

from scripts.docs import DOCUMENTS, JOINS, PARTS, current, streams
from tap_pancake.api.client import USER_API
from tap_pancake.running.interrupts import SIGNAL_EXIT
from tap_pancake.tap import TapPancake
from tests.documents import COMMANDS, blocks, fields_of
from tests.pancake_api import Account, PancakeServer
from tests.processes import ROOT, output_of
from tests.tap import BY_DEFAULT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


TROUBLES = ROOT / "docs" / "troubleshooting.md"
PAGES = [
    *sorted({*DOCUMENTS, *ROOT.glob("*.md"), *ROOT.glob("docs/vi/*.md")}),
    *sorted(ROOT.glob(".github/**/*.md")),
    ROOT / "benchmarks" / "README.md",
]
READ_TOO = [
    *sorted(ROOT.glob("tap_pancake/**/*.py")),
    *sorted(ROOT.glob("tap_pancake/**/*.json")),
    *sorted(ROOT.glob("transform/**/*.yml")),
    *sorted(ROOT.glob("orchestrate/*.py")),
    *sorted(ROOT.glob("orchestrate/kubernetes/*")),
    *sorted(ROOT.glob(".github/**/*.yml")),
    *(ROOT / name for name in ("meltano.yml", "hub/tap-pancake.yml", ".env.example")),
]
"""Files with texts that users read: messages, descriptions and settings."""


def name_of(document: Path) -> str:
    """Return a document's path in the project."""
    return document.relative_to(ROOT).as_posix()


def without_blocks(document: Path) -> str:
    """Return the text of a document without its fenced blocks."""
    text = document.read_text(encoding="utf-8")
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)


WORDS = (
    *("told", "said", "taken", "wanted", "mended", "hold back", "give way", "second tr(?:y|ies)"),
    *("longest way", "in (?:the )?place of", "anew", "goes without saying", "but for"),
)
"""Of the old documents, which readers had to read twice."""


@pytest.mark.parametrize("document", [*PAGES, *READ_TOO], ids=name_of)
def test_texts_have_plain_words(document: Path) -> None:
    """Code is read whole, so its names are checked, too."""
    if document.suffix == ".md":
        text = re.sub(r"`[^`]*`|\]\([^)]*\)", "", without_blocks(document))
    else:
        text = document.read_text(encoding="utf-8")
    assert not re.findall(rf"(?i)\b(?:{'|'.join(WORDS)})\b.*", re.sub(r"\s+", " ", text))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_what_is_made_from_the_code_is_current(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert current(text) == text, "run `python scripts/docs.py`"


def test_every_part_has_its_place() -> None:
    text = "".join(document.read_text(encoding="utf-8") for document in DOCUMENTS)
    assert {name: text.count(f"<!-- {name} -->") for name in PARTS} == dict.fromkeys(PARTS, 1)


# Links


ANCHOR = re.compile(r'<a id="([^"]+)"></a>')


def anchors(document: Path) -> list[str]:
    """Return the anchors of a document: its own, and those that GitHub makes of its headings."""
    text = without_blocks(document)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    made = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
    return made + ANCHOR.findall(text)


@pytest.mark.parametrize("document", PAGES, ids=name_of)
def test_links_lead_somewhere(document: Path) -> None:
    text = without_blocks(document)
    reference = r"^ *\[[^\]]+\]:.*|\]\[.*"
    assert not re.findall(reference, re.sub("`[^`]*`", "", text), re.MULTILINE), "link directly"
    inline = re.findall(r"\]\(\s*<?([^)\s>]+)", text)
    for link in inline + re.findall(r"""(?:href|src)\s*=\s*["']?([^"'\s>]+)""", text):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("document", PAGES, ids=name_of)
def test_anchors_are_unique(document: Path) -> None:
    found = anchors(document)
    assert not [anchor for anchor in found if found.count(anchor) > 1]


def test_the_contents_of_troubleshooting_have_each_section() -> None:
    contents, _, sections = without_blocks(TROUBLES).partition("\n## ")
    names = re.findall(r"^## (.*)$", f"## {sections}", flags=re.MULTILINE)
    listed = re.findall(r"\[([^\]]+)\]\(#[^)]*\)", contents.splitlines()[-1])
    assert listed == names


def empty_cells(text: str) -> list[str]:
    """Return the rows of tables that have a cell without a word or number."""
    rows = re.findall(r"^\|(.*)\|$", text, flags=re.MULTILINE)
    return [
        row
        for row in rows
        if not re.fullmatch(r"[-:| ]+", row)
        if not all(re.search(r"\w", cell) for cell in row.split("|"))
    ]


# Streams


STREAMS = ROOT / "docs" / "streams.md"
UNLISTED = {"page_id", "other_fields"}
"""Columns that the page explains once for all streams."""


def section_of(name: str) -> str:
    """Return a stream's section of docs/streams.md."""
    text = STREAMS.read_text(encoding="utf-8")
    return text.partition(f"\n## {name}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("name", streams())
def test_a_stream_has_a_section_with_its_facts(name: str) -> None:
    stream, section = streams()[name], section_of(name)
    endpoint = stream.path.replace("/pages/{page_id}", "…/pages/{page_id}", 1)
    endpoint = endpoint.replace("…/pages/{page_id}/conversations/{", "…/conversations/{")
    if stream.api == USER_API:
        endpoint = USER_API + endpoint
    get = f"`GET {endpoint}`" if stream.path else "No endpoint"
    keys = ", ".join(f"`{key}`" for key in stream.primary_keys)
    replication = f"`{stream.replication_key}`" if stream.replication_key else "full table"
    assert f"\n{get}. Key: {keys}. Replication: {replication}.\n" in section
    assert section.startswith("\nGood for: ")
    rights = re.findall(r"the right to (view [a-z ]+)\.", section)
    assert rights == ([stream.required_permission] if stream.required_permission else [])
    assert ("Not selected by default" in section) != stream.selected_by_default


@pytest.mark.parametrize("name", streams())
def test_a_section_has_each_column_once_and_nothing_else(name: str) -> None:
    stream = streams()[name]
    cells = re.findall(r"^\| (`.*?) \|", section_of(name), flags=re.MULTILINE)
    found = [column for cell in cells for column in re.findall("`([^`]+)`", cell)]
    assert len(set(found)) == len(found)
    unlisted = UNLISTED - {*stream.primary_keys} if name == "sync_runs" else UNLISTED
    assert not empty_cells(section_of(name))
    columns = {column for column in found if "." not in column}
    assert columns == stream.schema["properties"].keys() - unlisted
    assert set(found) <= {path for path, _ in fields_of(stream.schema)}


@pytest.mark.parametrize("name", streams())
def test_a_sample_row_is_one_that_the_stream_could_write(name: str) -> None:
    stream = streams()[name]
    (sample,) = re.findall(r"^```json\n(.*?)^```", section_of(name), re.MULTILINE | re.DOTALL)
    row = json.loads(sample)
    closed = stream.schema | {"additionalProperties": False}
    Draft202012Validator(closed, format_checker=FormatChecker()).validate(row)
    keys = {*stream.primary_keys, stream.replication_key or stream.primary_keys[0]}
    assert keys <= row.keys()


@pytest.mark.parametrize("name", streams())
def test_the_columns_that_cannot_be_null_are_those_that_the_page_names(name: str) -> None:
    """Under "Conventions"."""
    stream = streams()[name]
    columns = stream.schema["properties"]
    filled = {column for column, field in columns.items() if "null" not in field["type"]}
    if name == "sync_runs":
        assert columns.keys() - filled == {"page_name", "started_at", "reason"}
    else:
        assert filled == {*stream.primary_keys} | (columns.keys() & {"page_id"})


def test_the_page_of_streams_is_one_that_can_be_read() -> None:
    assert len(STREAMS.read_text(encoding="utf-8").split()) < 6_000


def test_the_diagram_joins_columns_that_are_there() -> None:
    for parent, child, columns, _ in JOINS:
        assert parent in streams()
        paths = {path for path, _ in fields_of(streams()[child].schema)}
        for column in columns.split(", "):
            assert column.removesuffix("[]") in paths, (child, column)


# Errors


def texts(node: ast.AST) -> Iterator[str]:
    """Return the texts that an expression may make, with "…" for what is filled in."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr(values=values):
            yield "".join(
                next(texts(value), "…") if isinstance(value, ast.Constant) else "…"
                for value in values
            )
        case ast.BinOp(left=left, right=right):
            yield from (one + other for one in texts(left) for other in texts(right))
        case ast.IfExp(body=body, orelse=orelse):
            yield from texts(body)
            yield from texts(orelse)


def tap_messages() -> Iterator[str]:
    """Yield the messages that the tap logs when something is wrong."""
    for path in sorted((ROOT / "tap_pancake").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Assign(
                    targets=[ast.Name(id="msg" | "problem" | "fault" | "text" | "NO_PAGE")],
                    value=value,
                ):
                    yield from texts(value)
                case ast.Yield(value=ast.AST() as value) if path.name in {
                    "settings.py",
                    "overrides.py",
                    "pages.py",
                }:
                    yield from texts(value)
                case ast.Call(
                    func=ast.Attribute(attr="warning" | "_warn" | "error" | "critical" | "reject"),
                    args=[message, *_],
                ):
                    yield from (re.sub("%[sd]", "…", text) for text in texts(message))


def plain(text: str) -> str:
    """Return a text with single spaces."""
    return " ".join(text.split())


def pieces(message: str) -> list[str]:
    """Return the parts of a message between what is filled in, that are long enough to be known."""
    parts = [part.strip(" ,;") for part in re.split(r"…|: |; or ", plain(message))]
    return [part for part in parts if len(part) > 12] or [max(parts, key=len)]


def test_every_error_is_explained() -> None:
    explained = plain(TROUBLES.read_text(encoding="utf-8"))
    messages = {message for message in tap_messages() if re.search(r"\w", message)}
    assert len(messages) > 40  # of which the shortest have nothing but what is filled in
    for message in messages:
        assert all(piece in explained for piece in pieces(message)), message


def test_every_explained_error_exists() -> None:
    source = [plain(message) for message in tap_messages()]
    names = [
        "Skipped: …",
        "Set aside: …",
        "fields that the schema does not have are in `other_fields`",
        "fields that the schema does not have were left out of objects",
        "values that do not fit their column",
    ]
    text = ANCHOR.sub("", TROUBLES.read_text(encoding="utf-8"))
    rows = re.findall(r"^\| (.*?) \|", text.partition("## Pages")[2], flags=re.MULTILINE)
    for cell in rows:
        for message in cell.replace(" (a WARNING)", "").split("; "):
            known = any(piece in one for piece in pieces(message) for one in source)
            known = known or any(name in message for name in names)
            assert known or message == "message", message


def message_rows() -> list[str]:
    """Return the rows of the tables of messages."""
    text = TROUBLES.read_text(encoding="utf-8")
    tables = re.findall(
        r"^\| (?:message|the API answers) \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, flags=re.MULTILINE
    )
    return "".join(tables).splitlines()


def test_every_message_has_an_anchor_of_its_own_and_a_remedy() -> None:
    rows = message_rows()
    assert len(rows) > 100
    assert not [row for row in rows if not re.match(r'\| <a id="[a-z0-9-]+"></a>', row)]
    assert not empty_cells(ANCHOR.sub("", "\n".join(rows)))


@pytest.mark.parametrize("document", [TROUBLES, ROOT / "docs" / "vi" / TROUBLES.name], ids=name_of)
def test_the_exit_codes_are_those_of_the_tap(document: Path) -> None:
    section = without_blocks(document).split("\n## ")[1]
    codes = re.findall(r"^\| ([\d, ]+) \|", section, flags=re.MULTILINE)
    signals = [SIGNAL_EXIT + signum for signum in (signal.SIGINT, signal.SIGTERM)]
    assert [*map(int, ",".join(codes).split(","))] == [0, 1, UsageError.exit_code, *signals]


# Settings and options


@pytest.mark.parametrize("document", PAGES, ids=name_of)
def test_defaults_in_brackets_are_those_of_the_settings(document: Path) -> None:
    settings = TapPancake.config_jsonschema["properties"]
    for name, value in re.findall(r"`(\w+)` \(([\d.]+)\)", without_blocks(document)):
        if name in settings:
            assert float(value) == settings[name]["default"], name


@pytest.mark.parametrize("document", PAGES, ids=name_of)
def test_options_exist(document: Path) -> None:
    exist = {option for each in TapPancake.cli.params for option in each.opts} | {"--help"}
    text = without_blocks(document)
    for code in re.findall(r"`(?:meltano invoke )?tap-pancake (--[^`]*)`", text):
        assert {*re.findall(r"--[\w-]+", code)} <= exist, code


# Commands

RUN_BY = {
    "docs/meltano.md": "tests/meltano_docs.py",
    "docs/scaling.md": "tests/orchestration.py",
    "docs/getting-started.md": "tests/test_docs.py",
}
"""Document → the tests that run its `bash` blocks as they are. Its `sh` blocks are not run."""
PROGRAMS = {
    "sh scripts/test.sh": ".ci/run",
    "sh scripts/test_dbt.sh": ".ci/run",
    "sh scripts/test_targets.sh": ".ci/run",
    "sh scripts/test_orchestration.sh": ".ci/run",
    "sh scripts/check_dist.sh": ".ci/run",
    ".ci/run": ".github/workflows/test.yml",
    "scripts.build": "tests/dbt_project.py",
    "scripts.report": "tests/dbt_report.py",
    "scripts.recipes": "tests/dbt_recipes.py",
}
"""Program → what runs it, though with other arguments."""
LANGUAGES = {"json", "mermaid", "python", "sql", "sql-duckdb", "sql-postgres", "text", "yaml"}
"""Languages of blocks, without those of commands: `sh` and `bash`."""


@cache
def lines_that_are_run() -> set[str]:
    """Return the commands that tests run as they are in a document."""
    return {
        line
        for path, tests in RUN_BY.items()
        if Path(path).name in (ROOT / tests).read_text(encoding="utf-8")
        for reason, language, block in COMMANDS.findall((ROOT / path).read_text(encoding="utf-8"))
        if language == "bash" and not reason
        for line in lines_of(block)
    }


@cache
def programs_that_are_run() -> list[str]:
    """Return the programs of `PROGRAMS` that are where they should be."""
    return [
        program
        for program, by in PROGRAMS.items()
        if program in (ROOT / by).read_text(encoding="utf-8")
    ]


@pytest.mark.parametrize("document", PAGES, ids=name_of)
def test_a_command_is_run_by_a_test_or_marked_with_the_reason(document: Path) -> None:
    run, programs = lines_that_are_run(), programs_that_are_run()
    for reason, language, block in COMMANDS.findall(document.read_text(encoding="utf-8")):
        if reason or (language == "bash" and name_of(document) in RUN_BY):
            continue
        for line in lines_of(block):
            assert line in run or any(map(line_has(line), programs)), line


def line_has(line: str) -> Callable[[str], object]:
    """Return a function that looks for a whole program in a command."""
    return lambda program: re.search(rf"(?<![\w./-]){re.escape(program)}(?![\w./-])", line)


@pytest.mark.parametrize("document", PAGES, ids=name_of)
def test_blocks_of_commands_are_sh_or_bash(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    fences = re.findall(r"^( *)(?:```|~~~)(.*)$", text, flags=re.MULTILINE)
    assert not re.findall(r"^ *~~~", text, flags=re.MULTILINE)
    for indent, language in fences[::2]:
        assert language in LANGUAGES or (not indent and language in {"sh", "bash"}), language
    assert not [language for _, language in fences[1::2] if language]


def test_the_columns_of_commands_exist() -> None:
    for document in PAGES:
        for line in commands(document.read_text(encoding="utf-8")):
            names = re.search(r"^meltano select tap-pancake (?:--exclude )?(\w+) (\w+)", line)
            if names:
                assert names[2] in streams()[names[1]].schema["properties"], line


# Getting started


def test_getting_started_leads_to_rows(tmp_path: Path) -> None:
    document = ROOT / "docs" / "getting-started.md"
    config, csv_config = map(json.loads, blocks(document, "json"))
    assert config.keys() == {"access_token", "start_date"}
    now = datetime.now(UTC)
    start = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
    account = Account.generate(
        seed=3, pages=2, conversations=5, start=start, end=start + timedelta(hours=20)
    )
    with PancakeServer(account) as server:
        config |= {"access_token": account.user_token, "api_url": server.url}
        config |= {"start_date": start.isoformat()}  # each day since then costs calls
        (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
        (tmp_path / "csv.json").write_text(json.dumps(csv_config), encoding="utf-8")
        read, again = blocks(document, "bash")
        done = [run_block(read, tmp_path)]
        server.reset_calls()
        account.pages[0].receive(next(iter(account.pages[0].conversations)))
        done.append(run_block(again, tmp_path))
        assert server.count("messages") == 1
    for page in account.pages[:2]:
        line = f"page {page.id} ({page.name}): everything can be read ({BY_DEFAULT} streams)"
        assert line in done[0]
    rows = [
        (row["conversation_id"], row["id"])
        for path in (tmp_path / "csv").glob("messages-*.csv")
        for row in csv.DictReader(StringIO(path.read_bytes().decode(), newline=""))
    ]
    assert set(rows) == set(account.expected().messages)
    assert "messages-" in done[0]


VIETNAMESE = {
    "README.vi.md": "README.md",
    "docs/vi/getting-started.md": "docs/getting-started.md",
    "docs/vi/troubleshooting.md": "docs/troubleshooting.md",
}


@pytest.mark.parametrize("document", VIETNAMESE)
def test_a_translation_has_the_commands_of_its_original(document: str) -> None:
    translated = (ROOT / document).read_text(encoding="utf-8")
    original = (ROOT / VIETNAMESE[document]).read_text(encoding="utf-8")
    assert commands(translated) == commands(original.partition("\n## Without Meltano")[0])
    # Who reads the one finds the other.
    path = os.path.relpath(ROOT / document, (ROOT / VIETNAMESE[document]).parent)
    assert f"[Tiếng Việt]({path})" in original


def test_the_translated_messages_are_those_of_the_tap() -> None:
    text = (ROOT / "docs" / "vi" / "troubleshooting.md").read_text(encoding="utf-8")
    rows = text.partition("| Thông báo")[2].splitlines()[2:]
    link = re.compile(r"\| (.*) \(\[EN\]\(\.\./troubleshooting\.md#(.*?)\)\) \|")
    messages = {found[1]: found[2] for row in rows if (found := link.match(row))}
    assert len(messages) == len([row for row in rows if row]) == 20
    originals = {anchor: row for row in message_rows() for anchor in ANCHOR.findall(row)}
    for message, anchor in messages.items():
        assert message in originals[anchor]


def commands(text: str) -> list[str]:
    """Return the commands of a document, without comments."""
    return [line for _, _, block in COMMANDS.findall(text) for line in lines_of(block)]


def lines_of(block: str) -> list[str]:
    """Return the lines of a block, without comments."""
    return [line.partition("  #")[0].strip() for line in block.splitlines() if line]


def run_block(commands: str, directory: Path) -> str:
    """Run commands as a user does, in a shell; give what they print."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = ["bash", "-euo", "pipefail", "-c", commands]
    return output_of(command, cwd=directory, env=os.environ | {"PATH": path})
