# Sourced by demo.sh and test.sh, in the project's directory: says with which Python, and makes
# virtual environments.

PYTHON=${PYTHON:-python3}
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "$0: '$PYTHON' is not Python 3.11 or newer: set PYTHON to one that is" >&2
    exit 1
fi

# install DIRECTORY ARGUMENT...: have a virtual environment in which `pip install ARGUMENT...` was
# done, with no work if that is so already.
install() {
    environment=$1
    shift
    made_for="$("$PYTHON" -VV) in $PWD"
    if [ "$(cat "$environment/made-for" 2>/dev/null)" != "$made_for" ]; then
        echo "Setting up $environment" >&2
        # Not by ensurepip, which some systems leave out and whose pip may know no groups.
        "$PYTHON" -m venv --clear --without-pip "$environment" &&
            "$PYTHON" -m pip --python "$environment/bin/python" install --quiet 'pip>=25.1' &&
            echo "$made_for" >"$environment/made-for" ||
            return 1
    fi
    # What a group or the project needs stands in pyproject.toml.
    wanted=$({ echo "$@" && cat pyproject.toml; } | cksum)
    installed="$environment/installed-$(echo "$@" | cksum | cut -d ' ' -f 1)"
    if [ "$(cat "$installed" 2>/dev/null)" != "$wanted" ]; then
        echo "Installing into $environment: $*" >&2
        "$environment/bin/python" -m pip install --quiet "$@" &&
            echo "$wanted" >"$installed"
    fi
}
