"""What the dbt project knows of the streams is what the schemas say."""

from __future__ import annotations

from scripts.dbt import HEAD, TRANSFORM, files


def test_the_generated_files_are_current() -> None:
    for path, text in files().items():
        assert path.read_text(encoding="utf-8") == text, f"{path}: run `python -m scripts.dbt`"


def test_no_generated_file_is_left_of_a_stream_that_is_gone() -> None:
    made = {path for path in TRANSFORM.rglob("*.*") if HEAD in path.read_text(encoding="utf-8")}
    assert made == files().keys()
