#!/bin/sh
# Builds the dbt project in transform/ with DuckDB and PostgreSQL, and compiles it for BigQuery and
# Snowflake; sets up what that needs first. Apart from scripts/test.sh, since it takes minutes. PYTHON
# chooses a Python.
set -eu
cd -- "$(dirname -- "$0")/.."
. scripts/setup.sh

install .venv --editable . --group test
install .venv-target-jsonl target-jsonl
install .venv-dbt --group dbt
# A file stays together, since some share a build.
exec .venv/bin/python -m pytest -n 2 --dist loadfile tests/dbt_*.py "$@" </dev/null
