#!/bin/sh
# Runs the DAG in orchestrate/ with a real Airflow, against the bundled server and a real PostgreSQL;
# sets up what that needs first. Apart from scripts/test.sh, since it takes minutes. PYTHON chooses a
# Python.
set -eu
cd -- "$(dirname -- "$0")/.."
. scripts/setup.sh

install .venv --editable . --group test
install .venv-airflow --group airflow
AIRFLOW="$PWD/.venv-airflow/bin" exec .venv/bin/python -m pytest tests/orchestration.py "$@" </dev/null
