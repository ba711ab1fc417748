"""Meltano projects in directories of their own, each with its own home."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.processes import ROOT, run_process

if TYPE_CHECKING:
    import subprocess

    from tests.tap import Json

MELTANO = Path(sys.executable).with_name("meltano")


@dataclass
class Project:
    """A Meltano project, and the output of its commands."""

    directory: Path
    environment: dict[str, str]
    output: str = field(default="", init=False)

    def run(self, *command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run any command in the project."""
        done = run_process(command, cwd=self.directory, env=self.environment | environment)
        self.output += done.stdout + done.stderr
        return done

    def meltano(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run Meltano."""
        return self.run(MELTANO, *arguments, **environment)

    def install(self, *plugins: str) -> None:
        """Install plugins with uv, or with pip if uv fails, as in scripts/demo.sh."""
        if self.meltano("install", *plugins).returncode:
            self.environment["MELTANO_VENV_BACKEND"] = "virtualenv"
            done = self.meltano("install", "--clean", *plugins)
            assert done.returncode == 0, self.output

    def rows(self, stream: str) -> list[dict[str, Any]]:
        """Return a stream's rows in the order in which target-jsonl wrote them."""
        lines = (self.directory / "output" / f"{stream}.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in lines.splitlines()]

    def written(self, stream: str, key: tuple[str, ...]) -> list[tuple[str, ...]]:
        """Return the keys of a stream's rows in the order in which they were written."""
        return [tuple(row[name] for name in key) for row in self.rows(stream)]

    def files(self) -> list[Path]:
        """Return all files except those of the plugins' environments."""
        return [
            path
            for path in self.directory.rglob("*")
            if path.is_file() and "venv" not in path.relative_to(self.directory).parts
        ]


def variables_of(config: Json) -> dict[str, str]:
    """Return the environment variables that hold the tap's settings."""
    return {
        f"TAP_PANCAKE_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
        for name, value in config.items()
    }


def own_definition() -> str:
    """Return this repository's `meltano.yml`, changed for another directory."""
    text = (ROOT / "meltano.yml").read_text(encoding="utf-8")
    assert text.count("pip_url: -e .\n") == 1
    return text.replace("pip_url: -e .\n", f"pip_url: -e '{ROOT}'\n")


def new_project(directory: Path, home: Path) -> Project:
    """Return a project without a `meltano.yml`, and without settings of this process."""
    directory.mkdir()
    home.mkdir()
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MELTANO_", "TAP_PANCAKE_", "TARGET_", "SINGER_"))
        # With it, each run of a plugin would compile all packages of its new environment.
        and name != "PYTHONDONTWRITEBYTECODE"
    }
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Project(
        directory,
        inherited
        | {
            "HOME": str(home),
            "MELTANO_SEND_ANONYMOUS_USAGE_STATS": "false",
            "MELTANO_CLI_DISABLE_VERSION_CHECK": "true",
            # Downloads are cached, which halves the time.
            "PIP_CACHE_DIR": str(caches / "pip"),
            "UV_CACHE_DIR": str(caches / "uv"),
            "UV_SYSTEM_CERTS": "1",
        },
    )
