# shellcheck shell=bash
# Sourced by the other scripts: where everything lives that is not part of the source tree.
# One cache for all work trees, so that jars, the Python environment and build results are shared.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${TIDEGATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tidegate}
venv=$cache/venv
export TIDEGATE_CACHE=$cache
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
export TIDEGATE_BIN=${TIDEGATE_BIN:-$CARGO_TARGET_DIR/release/tidegate}
# Every hop of the tests is on loopback; a proxy for the outside world must not see it.
export NO_PROXY=${NO_PROXY:+$NO_PROXY,}127.0.0.1,localhost
export root venv
