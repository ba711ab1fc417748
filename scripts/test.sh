#!/bin/sh
# Runs the tests, with the arguments of pytest; sets up what they need first. PYTHON chooses a Python.
set -eu
cd -- "$(dirname -- "$0")/.."
. scripts/setup.sh

install .venv --editable . --group test
# Apart, since it needs `backoff`, which would overwrite the files of python-backoff.
install .venv-singer-tools singer-tools
# Apart, since it needs a jsonschema of 2017.
install .venv-target-jsonl target-jsonl
# More at a time than there are cores, since most tests wait for a process; a file stays together,
# since some share runs that take long.
exec .venv/bin/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder "$@" </dev/null
