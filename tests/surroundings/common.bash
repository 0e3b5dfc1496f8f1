# shellcheck shell=bash
# shellcheck disable=SC2034 # some are for the scripts alone
# What the scripts of tests/surroundings/ share: BUILD_DIR LIB as arguments, and comparisons of bare with preloaded.

if [[ $# -ne 2 || ! -x $1/crowd || ! -f $2 ]]; then
    echo "usage: $0 BUILD_DIR LIB (BUILD_DIR/crowd must exist)" >&2
    exit 2
fi
build=$(realpath "$1")
lib=$(realpath "$2")
work=$(mktemp -d)
# For what runs as another user, or in another root.
chmod 755 "$work"
trap 'rm -rf "$work"' EXIT
failures=0
# Seconds after which something hangs, on the slowest machine. The library, too, is to wait there for whoever holds
# something and goes on; where a thread holds something for good, the default deadline ends that: `at_once`.
limit=120
unset LD_PRELOAD
export LC_ALL=C FORKSAFE_DEADLINE_MS=60000
at_once=(env FORKSAFE_DEADLINE_MS=500)

check() { # NAME STATUS
    if [[ $2 -ne 0 ]]; then
        echo "FAIL  $1"
        failures=$((failures + 1))
        tail -n 20 "$work/bare" "$work/preloaded" "$work/err" 2>/dev/null | sed 's/^/      | /' || true
    else
        echo "ok    $1"
    fi
    rm -f "$work/bare" "$work/preloaded" "$work/err"
}

skip() { # NAME REASON
    echo "skip  $1: $2"
}

# Where a command has its setting before it, {} in the setting stands for the preload: "env {}", "filter x=y env {}".
setting=(env {})

# run_with PRELOADS COMMAND...: prints what the command wrote, then its exit status.
run_with() {
    local preloads=$1 word code=0
    local -a words=()
    shift
    for word in "${setting[@]}"; do
        if [[ $word == '{}' ]]; then
            [[ -z $preloads ]] || words+=("LD_PRELOAD=$preloads")
        else
            words+=("$word")
        fi
    done
    timeout -k 5 "$limit" "${words[@]}" "$@" 2>&1 </dev/null || code=$?
    echo "status $code"
}

# same COMMAND...: true if it writes and returns the same bare and preloaded, and comes to its end.
same() {
    run_with "${others-}" "$@" >"$work/bare"
    run_with "${preloads:-$lib}" "$@" >"$work/preloaded"
    ! grep -qxE 'status (124|137)' "$work/bare" && cmp -s "$work/bare" "$work/preloaded"
}

# works COMMAND...: true if, preloaded, it says what `expected` says, and ends with 0. What the library says of
# holds that
# were forced may be between.
works() {
    run_with "${preloads:-$lib}" "$@" >"$work/preloaded"
    grep -v '^forksafe: process .* released here' "$work/preloaded" |
        cmp -s - <(printf '%s\nstatus 0\n' "${expected-20 forks, 20 children fine}")
}

# One line of the library's own in what the last run wrote, and it is like that.
says_once() { # PATTERN
    [[ $(grep -c '^forksafe: ' "$work/preloaded") == 1 ]] && grep -Eq -- "^forksafe: .*$1" "$work/preloaded"
}
