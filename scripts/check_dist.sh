#!/bin/sh
# Builds the sdist, and the wheel from it, into dist/. Checks both with tests/dist.py, with the wheel
# installed in an environment of its own. The files in dist/ are then ready to publish. Needs a git
# checkout. PYTHON chooses the Python.
set -eu
cd -- "$(dirname -- "$0")/.."
. scripts/setup.sh

install .venv --editable . --group test
install .venv-dist --group dist

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

rm -rf dist
.venv-dist/bin/python -m build
.venv-dist/bin/twine check --strict dist/*
"$PYTHON" -m venv --without-pip "$scratch/installed"
.venv-dist/bin/python -m pip --python "$scratch/installed/bin/python" install --quiet dist/*.whl
INSTALLED="$scratch/installed" .venv/bin/python -m pytest tests/dist.py
