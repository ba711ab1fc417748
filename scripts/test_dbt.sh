#!/bin/sh
# Installs what it needs, builds the dbt project in transform/ with DuckDB and PostgreSQL, and compiles
# it for BigQuery and Snowflake. Not part of scripts/test.sh, as it takes minutes. PYTHON chooses the
# Python.
set -eu
cd -- "$(dirname -- "$0")/.."
. scripts/setup.sh

install .venv --editable . --group test
install .venv-target-jsonl target-jsonl
install .venv-dbt --group dbt
# The tests of one file run on one worker, as some share a build.
exec .venv/bin/python -m pytest -n 2 --dist loadfile tests/dbt_*.py "$@" </dev/null
