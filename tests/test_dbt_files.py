"""What the dbt project knows of the streams is what the schemas say."""

from __future__ import annotations

import re

import yaml

from scripts.dbt import HEAD, TRANSFORM, files
from tests.processes import ROOT

DOCUMENT = ROOT / "docs" / "dbt.md"


def test_the_generated_files_are_current() -> None:
    for path, text in files().items():
        assert path.read_text(encoding="utf-8") == text, f"{path}: run `python -m scripts.dbt`"


def test_no_generated_file_is_left_of_a_stream_that_is_gone() -> None:
    # Not in what dbt leaves behind.
    made = {
        path
        for name in ("macros", "models", "seeds", "tests")
        for path in (TRANSFORM / name).rglob("*.*")
        if HEAD in path.read_text(encoding="utf-8")
    }
    assert made == files().keys()


def test_the_document_has_every_mart_and_columns_that_are_there() -> None:
    columns = {
        model["name"]: {column["name"] for column in model["columns"]}
        for path in (TRANSFORM / "models" / "marts").glob("*.yml")
        for model in yaml.safe_load(path.read_text(encoding="utf-8"))["models"]
    }
    text = DOCUMENT.read_text(encoding="utf-8").partition("## Models")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(pancake__\w+)` \|.*\| ([^|]*) \|$", text, flags=re.MULTILINE)
    assert sorted(name for name, _ in rows) == sorted(columns)
    for name, named in rows:
        found = set(re.findall(r"`(\w+)`", named))
        assert found, name
        assert found <= columns[name], name


def test_every_variable_has_a_default_and_is_used() -> None:
    project = (TRANSFORM / "dbt_project.yml").read_text(encoding="utf-8")
    texts = [project.partition("\nvars:\n")[0]]
    for pattern in ("macros/*.sql", "models/**/*.sql", "models/*.yml", "tests/*.sql"):
        texts += [path.read_text(encoding="utf-8") for path in TRANSFORM.glob(pattern)]
    used = set(re.findall(r"\bvar\(\s*['\"]+(\w+)['\"]", "".join(texts)))
    assert used - {"pancake__using_"} == yaml.safe_load(project)["vars"].keys()
