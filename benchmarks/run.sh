#!/bin/sh
# Measures the tap beside its peers: sets up all of them, runs the works named as arguments or all,
# prints the tables and writes them into benchmarks/README.md. `--help` tells more. PYTHON chooses a
# Python.
set -eu
cd -- "$(dirname -- "$0")/.."
. scripts/setup.sh
# As on a user's machine, where Python keeps what it has compiled.
unset PYTHONDONTWRITEBYTECODE

# One environment for each, since what one needs must not change another.
install .venv-bench-tap --editable .
for peer in stock dlt airbyte; do
    # By their names and not by their file, so that a change of it is seen.
    install ".venv-bench-$peer" $(cat "benchmarks/peers/$peer.txt")
done
# The bare script's, and that of the benchmark itself.
install .venv-bench $(cat benchmarks/peers/bare.txt)

exec .venv-bench/bin/python -m benchmarks.run "$@" </dev/null
