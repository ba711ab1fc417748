"""Each code of the reference is in the table of errors and the documents, with a remedy."""

from __future__ import annotations

import re

import pytest

from tap_pancake.api import errors
from tap_pancake.api.errors import (
    PageDeactivated,
    PageFailed,
    PageSkipped,
    PageTokenRenewed,
    PageUnreadable,
    PancakeError,
    RunStopped,
    UnknownRefusal,
)
from tests.processes import ROOT

CODES: dict[int, tuple[type[PancakeError], type[PancakeError]]] = {
    100: (PageFailed, PageFailed),
    101: (RunStopped, RunStopped),
    102: (PageUnreadable, RunStopped),
    103: (PageUnreadable, RunStopped),
    104: (PageUnreadable, PageUnreadable),
    105: (PageTokenRenewed, RunStopped),
    106: (PageFailed, PageFailed),
    107: (UnknownRefusal, UnknownRefusal),
    108: (PageFailed, PageFailed),
    121: (PageSkipped, PageSkipped),
    122: (PageSkipped, PageSkipped),
    123: (PageUnreadable, PageUnreadable),
    125: (PageDeactivated, PageDeactivated),
    126: (PageSkipped, PageSkipped),
    136: (PageFailed, PageFailed),
    145: (PageFailed, PageFailed),
    190: (PageUnreadable, RunStopped),
}
"""Code → what it means for a page token and for a user token: the reference, section 2.2."""


def error_of(code: int, *, user_api: bool) -> tuple[type[PancakeError], str]:
    """Return the class of a code's error, and its text without the code."""
    body = {"success": False, "error_code": code, "message": "x"}
    with pytest.raises(PancakeError) as error:
        errors.raise_for_answer(200, body, where="here", user_api=user_api)
    return error.type, re.sub(r" \([^()]*\)$", "", str(error.value))


@pytest.mark.parametrize("user_api", [False, True])
def test_the_table_has_the_codes_of_the_reference_and_no_others(*, user_api: bool) -> None:
    unknown = error_of(999, user_api=user_api)
    answers = {code: error_of(code, user_api=user_api) for code in range(300)}
    known = {code: answer for code, answer in answers.items() if answer != unknown}
    assert {code: kind for code, (kind, _) in known.items()} == {
        code: kinds[user_api] for code, kinds in CODES.items()
    }
    for _, text in known.values():
        where, cause, remedy = text.split(": ", 2)
        assert (where, bool(cause), bool(remedy)) == ("here", True, True)


def test_the_documents_have_a_line_for_each_code() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    assert {int(code) for code in re.findall(r"`error_code` (\d+)", text)} == CODES.keys()


@pytest.mark.parametrize("code", [106, 108, 136, 145])
def test_the_documents_say_that_a_conversation_is_set_aside(code: int) -> None:
    """As the fault matrix of `messages` shows that it is."""
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if f"`error_code` {code}" in line]
    assert line.endswith("| sets aside or fails |")
