#!/bin/sh
# Installs what the tests need, and runs them with the arguments of pytest. PYTHON chooses the Python.
set -eu
cd -- "$(dirname -- "$0")/.."
. scripts/setup.sh

install .venv --editable . --group test
# In its own environment: it needs `backoff`, which would overwrite the files of python-backoff.
install .venv-singer-tools singer-tools
# In its own environment: it needs a jsonschema of 2017.
install .venv-target-jsonl target-jsonl
# More workers than cores: most tests wait for a process. The tests of one file run on one worker, as
# some share runs that take long.
exec .venv/bin/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder "$@" </dev/null
