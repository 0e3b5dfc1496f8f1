# shellcheck shell=bash
# shellcheck disable=SC2154,SC2119 # $parts, $home and $work are the command's
# forksafe report: the text report, the page and the trace, from event files.

# shellcheck source=scripts/forksafe.d/symbolise.bash
source "$parts/symbolise.bash"

report_usage() {
    cat <<'EOF'
usage: forksafe report [OPTION...] FILE...

Reads the events that were written to each FILE (FORKSAFE_REPORT=FILE, or `forksafe run --report FILE`; - is the
standard input), and prints for each process tree its forks, what was inherited, and what went wrong, with function,
file and line where the program was built with -g.

  --html OUT    also write OUT, a page with a timeline and tables
  --trace OUT   also write OUT, for Perfetto or chrome://tracing

Exit status: 0; 2 for bad usage, where a file could not be read whole (what could be is shown), or not be written.
EOF
}

# The events of files as lines to standard output; a line on stderr, and a line in $work/problems, for each problem.
read_events() { # FILE...
    local file name
    for file; do
        name=$file
        if [[ $file == - ]]; then
            file=/dev/stdin name="standard input"
        elif [[ -d $file ]]; then
            problem "$name: is a folder; give the files in it"
            continue
        elif [[ ! -e $file ]]; then
            problem "$name: there is no such file"
            continue
        fi
        if ! cat -- "$file" >"$work/read" 2>"$work/read-error"; then
            problem "$name: cannot be read: $(why "$work/read-error")"
            [[ -s $work/read ]] || continue
        fi
        if [[ ! -s $work/read ]]; then
            problem "$name: is empty: no process wrote an event; \`forksafe doctor PROGRAM\` may tell why"
            continue
        fi
        parse_events "$name" <"$work/read"
    done
}

problem() { # LINE
    say "${verb:+$verb: }$1"
    echo "$1" >>"$work/problems"
}

# Lines in, events out; a line on stderr for each kind of those that are none.
parse_events() { # NAME
    local bad line
    jq_run -R -c 'include "common"; read_line | if .event then .event else [input_line_number, .problem] end' \
        >"$work/parsed"
    grep -v '^\[' "$work/parsed" || true
    # jq counts line ends, and the last line may have none. (jq 1.6 has no other way to number the lines.)
    bad=$({ grep '^\[' "$work/parsed" || true; } | jq -s -r 'group_by(.[1]) | sort_by(.[0][0])[]
        | "line \([.[0][0], 1] | max) \(.[0][1]): left out"
            + (if length > 1 then ", and \(length - 1) more like it" else "" end)')
    while read -r line; do
        [[ -z $line ]] || problem "$1: $line"
    done <<<"$bad"
}

by_time() { # FILE: events of several files in their order
    jq -s -c 'sort_by(.time)[]' "$1"
}

report_main() {
    local html='' trace='' value words status=0
    local -a files=()
    while (($# > 0)); do
        case $1 in
            -h | --help)
                report_usage | to_stdout
                return
                ;;
            --html | --html=*)
                option_value "$@"
                html=$value
                shift "$words"
                ;;
            --trace | --trace=*)
                option_value "$@"
                trace=$value
                shift "$words"
                ;;
            --)
                shift
                files+=("$@")
                break
                ;;
            -?*) misuse "unknown option '$1'" ;;
            *)
                files+=("$1")
                shift
                ;;
        esac
    done
    ((${#files[@]} > 0)) || misuse "no event file"
    need jq
    if [[ -n $html$trace ]]; then
        part html.bash "--html and --trace"
    fi
    [[ -z $html ]] || can_write "$html" || exit 2
    [[ -z $trace ]] || can_write "$trace" || exit 2
    make_work
    : >"$work/problems"
    read_events "${files[@]}" >"$work/events"
    if ((${#files[@]} > 1)); then
        by_time "$work/events" >"$work/sorted"
        mv "$work/sorted" "$work/events"
    fi
    symbolise <"$work/events" >"$work/symbolised"
    { jq_run -n -r -f "$parts/report.jq" "$work/symbolised" && jq_run -n -r 'include "common"; counts(inputs) |
        "forksafe: \(summary)"' "$work/events"; } >"$work/text"
    to_stdout <"$work/text"
    [[ -z $html ]] || html_report "$work/symbolised" "$html" || status=2
    [[ -z $trace ]] || trace_report "$work/symbolised" "$trace" || status=2
    [[ ! -s $work/problems ]] || status=2
    return "$status"
}
