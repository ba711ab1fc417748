#!/bin/sh
# Runs the tests, with the arguments of pytest; sets up what they need first. PYTHON chooses a Python.
set -eu
cd -- "$(dirname -- "$0")/.."
. scripts/setup.sh

install .venv --editable . --group test
# Apart, since it needs `backoff`, which would overwrite the files of python-backoff.
install .venv-singer-tools singer-tools
# More at a time than there are cores: most tests wait for a process.
exec .venv/bin/python -m pytest -n 4 --dist worksteal "$@" </dev/null
