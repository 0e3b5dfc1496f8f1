# shellcheck shell=bash
# shellcheck disable=SC2154,SC2016,SC2119 # $parts, $home and $work are the command's; jq has its own $
# forksafe run: a command with the library preloaded, its reports as they come, and a verdict for CI.
#
# The command runs in the background, so that signals can be passed on to it, but in this process group and with
# this standard input, so that a terminal is its own. `stream` reads the events as the file grows.

# shellcheck source=scripts/forksafe.d/symbolise.bash
source "$parts/symbolise.bash"

run_usage() {
    cat <<'EOF'
usage: forksafe run [OPTION...] [--] COMMAND [ARGUMENT...]

Runs COMMAND with libforksafe.so preloaded, and with it every process that it starts. What goes wrong at forks is told
on stderr as it happens, each mistake once, with function, file and line where the program was built with -g; at the end
comes a summary.

  --mode repair|detect|off   repair: forks are made safe (default). detect: forks happen as they would without forksafe,
                             and each lock that the child would have hung on is told. off: the library does nothing.
  --fail-on WHAT             exit with 66 if there was: deadlock: a lock that the child would have hung on (detect);
                             forced: that, or a lock taken from its holder, or a libc call that was cut; held: anything
                             inherited at all; never (default)
  --report FILE              append the events to FILE (JSON Lines; `forksafe report FILE` reads them)
  --junit FILE               write the findings as JUnit XML
  --sarif FILE               write the findings as SARIF 2.1.0
  --timeout SECONDS          after so long, report the stacks of all threads of every process that is still alive, end
                             them, and exit with 124

Exit status: the command's own (128+N if signal N killed it); 66 and 124 as above; 126 or 127 where COMMAND cannot be
executed or is not found; 2 for bad usage, or where a file could not be written. Signals (TERM, HUP, INT, QUIT, USR1,
USR2) are passed on to the command. With GITHUB_ACTIONS in the environment, findings are annotations, too.
EOF
}

# --- the events as they come -------------------------------------------------------------------------------------

file_size() { # FILE
    stat -c %s -- "$1" 2>/dev/null || echo 0
}

# What is new in $events past $seen, in whole lines, to $work/new. The library writes each line at once, but it may be
# read in between.
take_new() {
    local size partial
    size=$(file_size "$events")
    : >"$work/new"
    ((size > seen)) || return 0
    { tail -c "+$((seen + 1))" -- "$events" || true; } | { head -c "$((size - seen))" || true; } >"$work/new"
    if [[ -n $(tail -c 1 "$work/new" | tr '\n' ' ' | tr -d ' ') ]]; then
        partial=$(tail -n 1 "$work/new" | wc -c)
        truncate -s "-$partial" "$work/new"
    fi
    seen=$((seen + $(file_size "$work/new")))
}

# The events that are findings, from $work/new. (Written so by the library: a quote inside a string has a \ before it.)
only_noteworthy() {
    LC_ALL=C grep -E '"event":"(deadlock|stuck|timeout)"|"torn":true|"kind":"libc call"' || true
}

# Tells the findings in $work/new that are new. $work/told holds the keys of those told.
tell_new() {
    [[ -s $work/new ]] || return 0
    only_noteworthy <"$work/new" >"$work/noteworthy"
    [[ -s $work/noteworthy ]] || return 0
    parse_quietly <"$work/noteworthy" | jq_run -n -c --slurpfile told "$work/told" 'include "common";
        foreach inputs as $event ({told: ($told | map({(.): true}) | add // {})};
            ($event | [findings.key]) as $keys
            | .told as $told
            | {told: (reduce $keys[] as $key ($told; .[$key] = true)),
               new: ($keys | map(select($told[.] | not)))};
            select(.new != []) | {event: $event, keys: .new})' >"$work/fresh"
    [[ -s $work/fresh ]] || return 0
    jq -c '.keys[]' "$work/fresh" >>"$work/told"
    # Findings of one event may be new or not: the keys say which.
    jq -c .event "$work/fresh" | symbolise "$work/symbols" | jq_run -n -r --slurpfile fresh "$work/fresh" '
        include "common";
        ($fresh | map(.keys[]) | map({(.): true}) | add) as $new
        | foreach (inputs | findings | select($new[.key])) as $one ({};
            if has($one.key) then .[$one.key] = 2 else .[$one.key] = 1 end;
            select(.[$one.key] == 1) | $one | as_text)' >"$work/text"
    cat "$work/text" >&2
}

parse_quietly() {
    jq_run -R -c 'include "common"; read_line | .event // empty'
}

# Until its standard input ends. It must outlive a Ctrl-C, to tell what happened last.
stream() {
    local seen=$1 last='' status word
    trap '' INT QUIT HUP TERM USR1 USR2
    set +e
    while [[ -z $last ]]; do
        status=0
        read -r -t 0.3 word || status=$?
        # Above 128: nothing came in time. All else is the end.
        ((status > 128)) || last=$word.
        take_new
        tell_new
    done
}

# --- the command -------------------------------------------------------------------------------------------------

# Where the library is, in the tree or installed.
find_library() {
    local place
    for place in "$home/../build/libforksafe.so" "$home/../lib/libforksafe.so"; do
        if [[ -r $place ]]; then
            library=$(realpath "$place")
            [[ $library != *[[:space:]:]* ]] ||
                fail "'$library' cannot be preloaded: the dynamic linker takes no path with a space or a colon; move it"
            return
        fi
    done
    fail "libforksafe.so is neither in $home/../build nor in $home/../lib: run make, or install forksafe whole"
}

# As a shell would: 127 if there is no such command, 126 if it cannot be executed.
check_command() { # NAME
    local path=$1
    [[ $path == */* ]] || path=$(type -P -- "$1" || true)
    if [[ -z $path || ! -e $path ]]; then
        fail "$1: no such command" 127
    elif [[ -d $path ]]; then
        fail "$1: is a folder, not a command" 126
    elif [[ ! -x $path ]]; then
        fail "$1: permission denied; is it executable?" 126
    fi
}

# True if this process group is the foreground one of its terminal: then Ctrl-C reaches the command, too.
at_terminal() {
    local stat
    read -r stat <"/proc/$$/stat"
    # After the name in parentheses: state, parent, process group, session, terminal, its foreground group.
    read -r _ _ group _ _ foreground _ <<<"${stat##*) }"
    [[ $group == "$foreground" ]]
}

pass_on() { # SIGNAL
    interrupted=1
    if [[ $1 == INT || $1 == QUIT ]] && at_terminal; then
        return 0 # without a number it would be the status of what was interrupted
    fi
    if [[ -z $child ]]; then
        pending+=("$1")
    else
        kill -s "$1" "$child" 2>/dev/null || true
    fi
}

start() { # COMMAND...
    local signal
    pending=() child='' interrupted=''
    for signal in TERM HUP INT QUIT USR1 USR2; do
        # shellcheck disable=SC2064 # the name is meant now
        trap "pass_on $signal" "$signal"
    done
    trap 'interrupted=1 timed_out=1' ALRM
    # A background command would get /dev/null and ignore INT; exec gives it the signals that this shell was given.
    # shellcheck disable=SC2261
    if [[ -e /proc/$$/fd/0 ]]; then
        command_itself "$@" <&0 &
    else
        command_itself "$@" <&- &
    fi
    child=$!
    for signal in "${pending[@]}"; do
        kill -s "$signal" "$child" 2>/dev/null || true
    done
}

command_itself() { # COMMAND...
    exec {to_stream}>&-
    [[ -z $to_timer ]] || exec {to_timer}>&-
    trap - EXIT ALRM
    export FORKSAFE_REPORT=$events FORKSAFE_RUN=$marker
    [[ -z $mode ]] || export FORKSAFE_MODE=$mode
    export LD_PRELOAD=$library${given_preload:+:$given_preload}
    exec -- "$@"
}

# Waits for the command; sets $status. A signal that was passed on interrupts `wait`, and then it is asked again.
await() {
    while :; do
        interrupted=
        status=0
        wait "$child" 2>/dev/null || status=$?
        if [[ -n $timed_out ]]; then
            timed_out=
            if kill -0 "$child" 2>/dev/null; then
                end_tree
                status=124
                return
            fi
        fi
        [[ -n $interrupted ]] || return 0
    done
}

# --- the time limit ----------------------------------------------------------------------------------------------

# Processes of the tree that are alive: descendants, those with this run's mark in their environment (daemons, too),
# and those that wrote an event and have since overwritten their environment with a title.
tree_pids() {
    local stat rest state pid parent found last
    local -A parents=() alive=() tree=([$child]=1)
    for stat in /proc/[0-9]*/stat; do
        rest=
        { IFS= read -r -d '' rest <"$stat" || true; } 2>/dev/null
        [[ -n $rest ]] || continue
        read -r state parent _ <<<"${rest##*) }"
        [[ $state != [ZX] ]] || continue
        pid=${stat#/proc/}
        pid=${pid%/stat}
        alive[$pid]=1 parents[$pid]=$parent
    done
    while IFS= read -r pid; do
        tree[$pid]=1
    done < <(grep -lszxF -- "FORKSAFE_RUN=$marker" /proc/[0-9]*/environ | tr -dc '0-9\n')
    if [[ -z $report ]]; then
        # The file is this run's alone. A number used again would be that of a process without the library.
        while IFS= read -r pid; do
            [[ -z ${alive[$pid]-} ]] || ! grep -qsF -- "$library" "/proc/$pid/maps" || tree[$pid]=1
        done < <(parse_quietly <"$events" | jq -r '.pid, .child // empty' | sort -u)
    fi
    found=0 last=-1
    while ((found != last)); do
        last=$found
        for pid in "${!parents[@]}"; do
            if [[ -z ${tree[$pid]-} && -n ${tree[${parents[$pid]}]-} ]]; then
                tree[$pid]=1
                found=$((found + 1))
            fi
        done
    done
    for pid in "${!tree[@]}"; do
        [[ -z ${alive[$pid]-} ]] || echo "$pid"
    done | sort -n
}

# "thread TID" and "frame FUNCTION MODULE BUILD_ID OFFSET FILE LINE" lines, with tabs between.
stacks_by_elfutils() { # PID
    LC_ALL=C timeout -k 1 30 eu-stack -p "$1" -m -b -s -i 2>/dev/null | awk '
        function flush() {
            if (have) print "frame\t" name "\t" module "\t" id "\t" offset "\t" file "\t" line
            have = 0
        }
        /^TID [0-9]+:/ { flush(); sub(/:.*/, "", $2); print "thread\t" $2; next }
        /^#/ {
            flush(); have = 1
            name = module = id = offset = file = line = ""
            rest = $0
            sub(/^#[0-9]+ +0x[0-9a-f]+( - 1)?/, "", rest)
            if (match(rest, / - [^ ].*$/)) { module = substr(rest, RSTART + 3); rest = substr(rest, 1, RSTART - 1) }
            sub(/^ +/, "", rest)
            name = rest
            next
        }
        have && /^ +\[[0-9a-f]+\]@0x[0-9a-f]+\+0x[0-9a-f]+$/ {
            id = $1; sub(/^\[/, "", id); sub(/\].*/, "", id)
            offset = $1; sub(/.*\+/, "", offset)
            next
        }
        have && /^ +[^ ].*:[0-9]+(:[0-9]+)?$/ {
            file = $0
            sub(/^ +/, "", file)
            if (file ~ /:[0-9]+:[0-9]+$/) sub(/:[0-9]+$/, "", file)
            line = file; sub(/.*:/, "", line); sub(/:[0-9]+$/, "", file)
        }
        END { flush() }'
}

stacks_by_gdb() { # PID
    LC_ALL=C timeout -k 1 60 gdb -nx -batch -p "$1" -ex 'thread apply all backtrace' 2>/dev/null </dev/null | awk '
        /^Thread [0-9]+ \(/ {
            tid = ""
            if (match($0, /(LWP|process) [0-9]+/)) { tid = substr($0, RSTART, RLENGTH); sub(/.* /, "", tid) }
            if (tid != "") print "thread\t" tid
            next
        }
        /^#[0-9]+ / && tid != "" {
            rest = $0
            sub(/^#[0-9]+ +/, "", rest); sub(/^0x[0-9a-f]+ in /, "", rest)
            name = rest; sub(/ \(.*/, "", name)
            module = file = line = ""
            if (match(rest, / from [^ ]+$/)) module = substr(rest, RSTART + 6)
            if (match(rest, / at [^ ].*:[0-9]+$/)) {
                file = substr(rest, RSTART + 4); line = file
                sub(/.*:/, "", line); sub(/:[0-9]+$/, "", file)
            }
            print "frame\t" (name == "??" ? "" : name) "\t" module "\t\t\t" file "\t" line
        }'
}

first_line() { # FILE: without odd characters
    local text=
    { IFS= read -r -d '' text <"$1" || true; } 2>/dev/null
    printf '%s' "$text" | tr '\t\n' '  ' | sed 's/ *$//'
}

# A `timeout` event for a process.
timeout_event() { # PID
    local stacks='' task
    ! command -v eu-stack >/dev/null || stacks=$(stacks_by_elfutils "$1" || true)
    [[ $stacks == *frame* ]] || ! command -v gdb >/dev/null || stacks=$(stacks_by_gdb "$1" || true)
    {
        printf 'program\t%s\n' "$(first_line "/proc/$1/comm")"
        for task in "/proc/$1/task"/*; do
            [[ -e $task/comm ]] || continue
            printf 'name\t%s\t%s\t%s\n' "${task##*/}" "$(first_line "$task/comm")" \
                "no stack (eu-stack or gdb, and the right to use them, would give it); it waits in $(
                first_line "$task/wchan"), system call $(first_line "$task/syscall")"
        done
        printf '%s\n' "$stacks"
    } | jq -R -n -c --argjson pid "$1" --argjson time "$(now)" --argjson seconds "$timeout" '
        def known: with_entries(select(.value != "" and .value != null));
        [inputs | split("\t")] as $lines
        | (reduce ($lines[] | select(.[0] == "thread" or .[0] == "frame")) as $l ({at: "", of: {}};
            if $l[0] == "thread" then .at = $l[1] | .of[$l[1]] = []
            else .of[.at] += [{function: $l[1], module: $l[2], build_id: $l[3], offset: $l[4], file: $l[5],
                line: ($l[6] | try tonumber catch null)} | known] end) | .of) as $stacks
        | {v: 1, event: "timeout", time: $time, pid: $pid,
           program: ([$lines[] | select(.[0] == "program")[1]][0] // "?"), seconds: $seconds,
           threads: [$lines[] | select(.[0] == "name")
                | {tid: (.[1] | tonumber), name: .[2], stack: ($stacks[.[1]] // [])}
                    + (if $stacks[.[1]] // [] == [] then {note: .[3]} else {} end)]}'
}

now() {
    echo "${EPOCHREALTIME/,/.}"
}

# Reports the processes of the tree, and ends them.
end_tree() {
    local pid rounds=0
    local -a pids
    trap '' TERM HUP INT QUIT USR1 USR2
    mapfile -t pids < <(tree_pids)
    for pid in "${pids[@]}"; do
        if timeout_event "$pid" >"$work/timeout"; then
            cat "$work/timeout" >>"$events"
        fi
    done
    { # Without what bash itself says of a background command that was killed.
        kill -TERM "${pids[@]}" || true
        kill -CONT "${pids[@]}" || true
        while mapfile -t pids < <(tree_pids) && ((${#pids[@]} > 0 && rounds < 100)); do
            # 3 s for those that clean up; and more may have been forked.
            ((rounds < 30)) || kill -KILL "${pids[@]}" || true
            rounds=$((rounds + 1))
            sleep 0.1
        done
        # One that cannot be killed (in the kernel, for a device) is not waited for.
        ((rounds == 100)) || wait "$child" || true
    } 2>/dev/null
}

# --- the end -----------------------------------------------------------------------------------------------------

# All findings of this run, in $work/findings as one list.
collect_findings() {
    only_noteworthy <"$work/events" | parse_quietly | symbolise "$work/symbols" |
        jq_run -n -c 'include "common"; grouped(inputs | findings)' >"$work/findings"
}

github_annotations() {
    jq_run -r --arg root "${GITHUB_WORKSPACE:-$PWD}" -f "$parts/run-github.jq" "$work/findings" >"$work/annotations"
    cat "$work/annotations" >&2
}

write_files() {
    local seconds=$1 failed=0
    jq -n -c --arg command "$(printf '%q ' "${command[@]}")" --arg host "$(hostname 2>/dev/null || echo localhost)" \
        --argjson status "$status" --argjson seconds "$seconds" --arg began "$began" --arg directory "$PWD" \
        --arg version "$version" --argjson counts "$(<"$work/counts")" \
        '{command: ($command | rtrimstr(" ")), host: $host, status: $status, seconds: $seconds, began: $began,
          directory: $directory, version: $version, counts: $counts}' >"$work/about"
    if [[ -n $junit ]]; then
        jq_run -r --slurpfile about "$work/about" -f "$parts/run-junit.jq" "$work/findings" | write_output "$junit" ||
            failed=1
    fi
    if [[ -n $sarif ]]; then
        jq_run --slurpfile about "$work/about" -f "$parts/run-sarif.jq" "$work/findings" | write_output "$sarif" ||
            failed=1
    fi
    return "$failed"
}

# Whether what --fail-on names was there.
is_failed() {
    case $fail_on in
        deadlock) jq -e '.deadlocks > 0' "$work/counts" >/dev/null ;;
        forced) jq -e '.deadlocks + .forced > 0' "$work/counts" >/dev/null ;;
        held) jq -e '.deadlocks + .inherited > 0' "$work/counts" >/dev/null ;;
        *) return 1 ;;
    esac
}

finish() {
    local left bad
    # What this run appended, as it is now.
    tail -c "+$((start_size + 1))" -- "$events" >"$work/raw" 2>/dev/null || : >"$work/raw"
    parse_quietly <"$work/raw" >"$work/events"
    bad=$(($(wc -l <"$work/raw") - $(wc -l <"$work/events")))
    [[ -z $(tail -c 1 "$work/raw" | tr '\n' ' ' | tr -d ' ') ]] || bad=$((bad + 1))
    ((bad == 0)) ||
        say "run: $bad lines of $events are cut or no events of version $schema: left out; is the disk full?"
    jq_run -n -c 'include "common"; counts(inputs)' "$work/events" >"$work/counts"
    collect_findings
    jq_run -r 'include "common"; .[] | select(.count > 1)
        | "forksafe: \(.rule): \(.count) times in all: \(.title)"' "$work/findings" >"$work/repeated"
    cat "$work/repeated" >&2
    if jq -e '.processes == 0' "$work/counts" >/dev/null && [[ ${mode:-${FORKSAFE_MODE-}} != off ]]; then
        say "run: no process loaded the library; \`forksafe doctor ${command[0]}\` may tell why"
    fi
    left=$(tree_pids | wc -l)
    ((left == 0)) || say "run: $left of its processes still run; what they do from now on is not in this summary"
    jq_run -r 'include "common"; "forksafe: \(summary)"' "$work/counts" >&2
    [[ -z ${GITHUB_ACTIONS-} ]] || github_annotations
}

run_main() {
    local mode='' fail_on=never report='' junit='' sarif='' timeout='' value words
    local given_preload=${LD_PRELOAD-} library events marker start_size to_stream='' to_timer='' streamer
    local child='' status=0 interrupted='' timed_out='' began started file
    local -a command pending=()
    # This script's own helpers need no preload; the command gets it back.
    unset LD_PRELOAD
    while (($# > 0)); do
        case $1 in
            -h | --help)
                run_usage | to_stdout
                return
                ;;
            --mode | --mode=* | --fail-on | --fail-on=* | --report | --report=* | --junit | --junit=* | --sarif | \
                --sarif=* | --timeout | --timeout=*)
                option_value "$@"
                case $1 in
                    --mode*) mode=$value ;;
                    --fail-on*) fail_on=$value ;;
                    --report*) report=$value ;;
                    --junit*) junit=$value ;;
                    --sarif*) sarif=$value ;;
                    --timeout*) timeout=$value ;;
                esac
                shift "$words"
                ;;
            --)
                shift
                break
                ;;
            -*) misuse "unknown option '$1'" ;;
            *) break ;;
        esac
    done
    [[ $mode =~ ^(repair|detect|off|)$ ]] || misuse "--mode '$mode': one of repair, detect, off"
    [[ $fail_on =~ ^(deadlock|forced|held|never)$ ]] ||
        misuse "--fail-on '$fail_on': one of deadlock, forced, held, never"
    [[ -z $timeout || ($timeout =~ ^[0-9]{1,7}(\.[0-9]{1,3})?$ && $timeout =~ [1-9]) ]] ||
        misuse "--timeout '$timeout': a number of seconds above 0"
    while [[ $timeout == 0[0-9]* ]]; do # a number for jq
        timeout=${timeout#0}
    done
    (($# > 0)) || misuse "no command"
    command=("$@")
    need jq stat
    find_library
    for file in "$junit" "$sarif"; do
        [[ -z $file ]] || can_write "$file" || exit 2
    done
    make_work
    marker=$$.$RANDOM$RANDOM.${EPOCHREALTIME/[.,]/}
    open_report
    check_command "$1"
    mkdir "$work/symbols"
    : >"$work/told"
    start_size=$(file_size "$events")
    began=$(date -u +%Y-%m-%dT%H:%M:%S)
    started=${EPOCHREALTIME/[.,]/}
    exec {to_stream}> >(stream "$start_size")
    streamer=$!
    if [[ -n $timeout ]]; then
        exec {to_timer}> >(
            trap '' INT QUIT HUP TERM USR1 USR2
            exec {to_stream}>&-
            code=0
            read -r -t "$timeout" || code=$?
            ((code <= 128)) || kill -ALRM $$
        )
    fi
    start "$@"
    await
    trap '' TERM HUP INT QUIT USR1 USR2 ALRM
    [[ -z $to_timer ]] || exec {to_timer}>&-
    exec {to_stream}>&-
    wait "$streamer" 2>/dev/null || true
    finish
    file=0
    write_files "$(jq -n "(${EPOCHREALTIME/[.,]/} - $started) / 1000 | floor / 1000")" || file=2
    if ((status == 124)) && [[ -n $timeout ]] && jq -e 'any(.[]; .rule == "timeout")' "$work/findings" >/dev/null; then
        return 124
    elif is_failed; then
        say "run: exit status 66 (--fail-on $fail_on); the command's own was $status"
        return 66
    fi
    return $((file != 0 ? file : status))
}

# The file that the library appends to: sets $events.
open_report() {
    local longest=1000
    if [[ -z $report ]]; then
        events=$work/events.jsonl
        : >"$events"
        chmod 600 "$events"
    else
        [[ ! -L $report ]] || fail "--report '$report': is a symbolic link, which the library does not follow"
        can_write "$report" || exit 2
        [[ ! -e $report || -f $report ]] || fail "--report '$report': is no regular file; events are appended to a file"
        events=$(realpath -m -- "$report")
        if ! { (umask 077 && : >>"$events"); } 2>"$work/open-error"; then
            fail "--report '$report': cannot be written: $(why "$work/open-error")"
        fi
    fi
    [[ $events != *%p* ]] || fail "the path of events, '$events', has %p in it, but one file is for all processes"
    ((${#events} < longest)) || fail "the path of events is longer than $longest characters: '$events'"
}
