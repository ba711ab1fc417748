# Sourced by the other scripts, in the project's directory: chooses the Python, and makes virtual
# environments.

PYTHON=${PYTHON:-python3}
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "$0: '$PYTHON' is not Python 3.11 or newer: set PYTHON to one that is" >&2
    exit 1
fi

# install DIRECTORY ARGUMENT...: create a virtual environment and run `pip install ARGUMENT...` in it,
# unless that was done before.
install() {
    environment=$1
    shift
    made_for="$("$PYTHON" -VV) in $PWD"
    if [ "$(cat "$environment/made-for" 2>/dev/null)" != "$made_for" ]; then
        echo "Setting up $environment" >&2
        # Without ensurepip: some systems leave it out, and its pip may not support groups.
        "$PYTHON" -m venv --clear --without-pip "$environment" &&
            "$PYTHON" -m pip --python "$environment/bin/python" install --quiet 'pip>=25.1' &&
            echo "$made_for" >"$environment/made-for" ||
            return 1
    fi
    # The dependencies of the project and of its groups are in pyproject.toml.
    expected=$({ echo "$@" && cat pyproject.toml; } | cksum)
    installed="$environment/installed-$(echo "$@" | cksum | cut -d ' ' -f 1)"
    if [ "$(cat "$installed" 2>/dev/null)" != "$expected" ]; then
        echo "Installing into $environment: $*" >&2
        "$environment/bin/python" -m pip install --quiet "$@" &&
            echo "$expected" >"$installed"
    fi
}
