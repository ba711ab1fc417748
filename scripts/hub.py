"""Writes the definition of the tap for Meltano Hub: `python scripts/hub.py`.

It is made of the plugin in `meltano.yml`, and of what only the Hub asks for. A test fails when
`hub/tap-pancake.yml` is not what this would write.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import yaml

ROOT = Path(__file__).parents[1]
DEFINITION = ROOT / "hub" / "tap-pancake.yml"
NO_URL = "REPOSITORY"
"""Stands for the URL of the repository until `project.urls` in pyproject.toml has it."""

HEAD = """\
# Made by scripts/hub.py: change meltano.yml or that, and run `python scripts/hub.py`.
# REPOSITORY stands for a URL that does not exist yet; CONTRIBUTING.md says what to do about it.
"""
OF_THE_HUB = {
    "domain_url": "https://pages.fm",
    "keywords": ["api", "meltano_sdk"],
    "logo_url": "/assets/logos/extractors/pancake.png",
    # As the classifier in pyproject.toml.
    "maintenance_status": "beta",
    # The Hub judges it.
    "quality": "unknown",
    "settings_preamble": "Either `access_token` or `page_access_tokens` is needed.",
}
TAKEN = (
    "capabilities",
    "description",
    "executable",
    "label",
    "name",
    "namespace",
    "select",
    "settings",
    "settings_group_validation",
)
"""What the plugin in `meltano.yml` says of any project, and not of this one."""


def plugin() -> dict[str, Any]:
    """Return the plugin as `meltano.yml` has it."""
    project = yaml.safe_load((ROOT / "meltano.yml").read_text(encoding="utf-8"))
    return next(
        dict(entry) for entry in project["plugins"]["extractors"] if entry["name"] == "tap-pancake"
    )


def repository() -> str:
    """Return the URL of the repository, if it has one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project.get("urls", {}).get("Repository", NO_URL))


def definition(url: str) -> str:
    """Return the definition, as YAML with all keys in order."""
    known = plugin()
    facts = {
        **OF_THE_HUB,
        **{name: known[name] for name in TAKEN},
        "pip_url": f"git+{url}",
        "repo": url,
        # The Hub names a variant after the owner of its repository.
        "variant": "original" if url == NO_URL else urlparse(url).path.split("/")[1].lower(),
    }
    return HEAD + yaml.safe_dump(facts, allow_unicode=True, sort_keys=True, width=100)


if __name__ == "__main__":
    DEFINITION.write_text(definition(repository()), encoding="utf-8")
