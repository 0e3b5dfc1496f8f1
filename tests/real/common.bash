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
declare -A groups=() # those that were started and not yet killed
# What a preloaded half gets beside the library. The deadline is long, since a busy machine may leave
# a thread inside a lock for a while; a test that runs as a user would empties this.
options=(FORKSAFE_DEADLINE_MS=10000)
# A command before the command, without the library: one that changes the user, for programs that
# refuse to run as root.
as=()
as_nobody=()
((EUID != 0)) || as_nobody=(setpriv --reuid=nobody --regid=nogroup --clear-groups --)

# Prints the processes of a group, and all that descends from them, in groups of their own or not.
family() { # GROUP
    local -A found=()
    local stat pid parent group grew=1
    while ((grew)); do
        grew=0
        for stat in /proc/[0-9]*/stat; do
            # The name, in parentheses, may hold anything: what comes after it counts.
            read -r stat <"$stat" || continue
            pid=${stat%% *}
            read -r _ parent group _ <<<"${stat##*) }"
            [[ -z ${found[$pid]-} && ($group == "$1" || -n ${found[$parent]-}) ]] || continue
            found[$pid]=1
            grew=1
            echo "$pid"
        done
    done 2>/dev/null
}

kill_group() { # GROUP
    local members
    mapfile -t members < <(family "$1")
    kill -KILL -- "-$1" "${members[@]}" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
    unset "groups[$1]"
}

clean_up() {
    local group
    for group in "${!groups[@]}"; do
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
    for file in "${@:2}" "$scratch/stacks"; do
        [[ -s $file ]] || continue
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

# Lets every user write in the scratch directory, for programs that do not run as root, and takes a copy
# of the library there.
open_scratch() {
    chmod 1777 "$scratch"
    install -m 755 "$lib" "$scratch/libforksafe.so"
    lib=$scratch/libforksafe.so
}

# Starts a command in a process group of its own, killed after SECONDS; its output is in
# $scratch/NAME.out and .err. Sets $group, whose leader passes on the command's exit status. The half
# is one of
#   bare       without the library
#   preloaded  with it, as a user has it
#   counted    with it, and with an event for each fork, for fork_counts below
start() { # NAME SECONDS bare|preloaded|counted COMMAND...
    local half=(-u LD_PRELOAD)
    [[ $3 == bare ]] || half=("LD_PRELOAD=$lib" "${options[@]}")
    if [[ $3 == counted ]]; then
        mkdir -m 1777 "$scratch/$1.events"
        half+=("FORKSAFE_REPORT=$scratch/$1.events/%p")
    fi
    set -m
    timeout --foreground -s KILL "$2" "${as[@]}" env "${half[@]}" "${@:4}" \
        </dev/null >"$scratch/$1.out" 2>"$scratch/$1.err" &
    group=$!
    set +m
    groups[$group]=1
}

# Where the threads of a group's processes stand, in $scratch/stacks.
stacks() { # GROUP
    local pid
    for pid in $(family "$1"); do
        echo "=== $pid: $(tr '\0' ' ' <"/proc/$pid/cmdline" | cut -c 1-200)"
        timeout -s KILL 60 gdb -q -nx -batch -p "$pid" -ex 'thread apply all backtrace 25' 2>/dev/null |
            grep -E '^(Thread|#)' || cat "/proc/$pid"/task/*/{wchan,syscall} || true
    done >"$scratch/stacks" 2>/dev/null
}

# Waits until a group that was started has ended, and returns its exit status. After SECONDS it hangs:
# says where, and is killed (137).
await_end() { # GROUP SECONDS
    local status=0 watch
    set -m
    (
        sleep "$2"
        touch "$scratch/hangs"
        stacks "$1"
        kill -KILL -- "-$1"
    ) >/dev/null 2>&1 &
    watch=$!
    set +m
    wait "$1" 2>/dev/null || status=$?
    if [[ -e $scratch/hangs ]]; then
        wait "$watch" 2>/dev/null || true
    fi
    kill -KILL -- "-$watch" 2>/dev/null || true
    wait "$watch" 2>/dev/null || true
    kill_group "$1"
    return "$status"
}

# Runs a command as start does, and returns its exit status (137 if it hung or was killed).
run() { # NAME SECONDS bare|preloaded|counted COMMAND...
    local status=0
    start "$1" $(($2 + 120)) "${@:3}"
    await_end "$group" "$2" || status=$?
    return "$status"
}

# Looks whether the command succeeds, every 100 ms; gives up after SECONDS, which is far more than it
# should need.
await() { # SECONDS COMMAND...
    local until=$((SECONDS + $1))
    until "${@:2}" >/dev/null 2>&1; do
        ((SECONDS < until)) || return 1
        sleep 0.1
    done
}

# Fails unless the file holds nothing: a clean fork makes the library say nothing, and the dynamic
# linker says there if the library could not be preloaded.
expect_silence() { # WHAT FILE
    [[ ! -s $2 ]] || fail "$1 wrote on stderr" "$2"
}

# For programs that write logs: fails if the library has said anything in any file of the test, or the
# dynamic linker of the library.
expect_no_word() { # WHAT
    local said
    if said=$(grep -rIE '^forksafe: |^ERROR: ld\.so|libforksafe\.so.*cannot be preloaded' "$scratch" \
        --exclude-dir='*.events'); then
        fail "$1: a word of ours: $(head -n 5 <<<"$said")"
    fi
}

# The library must be in the process, or the test shows nothing.
expect_preloaded() { # PID...
    local pid
    for pid; do
        grep -q '/libforksafe\.so' "/proc/$pid/maps" || fail "process $pid is not preloaded"
    done
}

# What the events of a counted half say: sets $forks, $beside, those among them beside other threads,
# and $most, the greatest number of those. Each fork writes its event in its child. Fails if an event
# is about anything but a clean fork; $forced counts the forks that found a lock held that another thread
# could not let go, which only a test that says which, and why, tolerates (a filter of jq).
tolerated=false
fork_counts() { # NAME PROGRAM (a pattern)
    local events=$scratch/$1.events dirty
    cat "$events"/* >"$events.all"
    dirty=$(jq -c 'select(.event == "deadlock" or .event == "stuck" or (.event == "fork" and
        any(.inherited[]; (.torn or .role == "inside") and ('"$tolerated"' | not)))) |
        {event, program, thread, stop, inherited: [.inherited[]? | select(.torn or .role == "inside")]}' "$events.all")
    [[ -z $dirty ]] || fail "not a clean fork: ${dirty:0:3000}"
    read -r forks beside most forced < <(jq -rn --arg program "$2" '
        [inputs | select(.event == "fork" and (.program | test($program)))] |
        map(.stop | .parked + .detached + .running + .holding + .foreign) as $others |
        [length, ($others | map(select(. > 0)) | length), ($others | max // 0),
            (map(select(any(.inherited[]; .torn))) | length)] | join(" ")' "$events.all")
}
