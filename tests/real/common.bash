# What the tests of this directory share; each sources it, as in
#
#   source "$(dirname "$0")/common.bash" "$@"
#
# A test is called as `NAME LIB`, prints one line that begins with its name, with details below it
# on failure, and exits 0 (passed), 1 (failed) or 2 (skipped, or bad usage). Here come $lib,
# $scratch (removed at the end) and the functions below. Whatever a test starts is in process groups
# that are killed when it exits, so a child that hangs is never left behind.

name=$(basename "$0")
if [[ $# -ne 1 || ! -f $1 ]]; then
    echo "usage: $0 LIB (the library to preload)" >&2
    exit 2
fi
lib=$(realpath "$1")
# shellcheck disable=SC2034 # for the tests
here=$(dirname "$(realpath "$0")")
scratch=$(mktemp -d)
groups=()

kill_group() { # GROUP
    kill -KILL -- "-$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}

clean_up() {
    local group
    for group in "${groups[@]}"; do
        kill_group "$group"
    done
    rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 1' HUP INT TERM

pass() { # SUMMARY
    echo "$name: ok: $1"
    exit 0
}

skip() { # REASON
    echo "$name: skipped: $1"
    exit 2
}

fail() { # REASON [FILE...], whose ends are shown
    local file
    echo "$name: FAILED: $1"
    for file in "${@:2}"; do
        echo "--- ${file##*/}"
        tail -n 40 "$file"
    done
    exit 1
}

need() { # COMMAND...
    local command
    for command; do
        command -v "$command" >/dev/null || skip "no $command here"
    done
}

# Starts a command in a process group of its own, killed after SECONDS; its output is in
# $scratch/NAME.out and .err. Sets $group, whose leader passes on the command's exit status.
start() { # NAME SECONDS bare|preloaded COMMAND...
    local half=(-u LD_PRELOAD)
    # The deadline is long, since a busy machine may leave a thread inside a lock for a while.
    [[ $3 == bare ]] || half=("LD_PRELOAD=$lib" FORKSAFE_DEADLINE_MS=10000)
    set -m
    timeout --foreground -s KILL "$2" env "${half[@]}" "${@:4}" \
        </dev/null >"$scratch/$1.out" 2>"$scratch/$1.err" &
    group=$!
    set +m
    groups+=("$group")
}

# Runs a command as start does, and returns its exit status (137 if it was killed).
run() { # NAME SECONDS bare|preloaded COMMAND...
    local status=0
    start "$@"
    wait "$group" 2>/dev/null || status=$?
    kill_group "$group"
    return "$status"
}

# Fails unless the file holds nothing: a clean fork makes the library say nothing, and the dynamic
# linker says there if the library could not be preloaded.
expect_silence() { # WHAT FILE
    [[ ! -s $2 ]] || fail "$1 wrote on stderr" "$2"
}
