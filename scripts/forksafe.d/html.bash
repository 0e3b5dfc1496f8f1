# shellcheck shell=bash
# html.bash: symbolised events as a page, and as a trace. Sourced by scripts/forksafe.
#
#   html_report EVENTS OUT     one self-contained page
#   trace_report EVENTS OUT    a trace for chrome://tracing and ui.perfetto.dev
#
# EVENTS is a file of symbolised events, one JSON object a line. OUT is either whole, or as it was before. Both return 2
# and say in one line on stderr why OUT could not be written.

_html_folder=$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")

html_report() { _html_write "$2" _html_page "$1"; }
trace_report() { _html_write "$2" _html_trace "$1"; }

# _html_page EVENTS FOLDER: the page on stdout; FOLDER is for temporary files.
_html_page() {
    local page=$_html_folder/report.html
    jq -nRc --argjson table '[]' -f "$_html_folder/html.jq" "$1" >"$2/table" || return
    # "<" is written as an escape, since "</script" or "<!--" in a name would end the element, or hide its end.
    sed '/^@EVENTS@$/,$d' "$page" &&
        jq -nRr --slurpfile table "$2/table" -f "$_html_folder/html.jq" "$1" | sed 's/</\\u003c/g' &&
        sed '1,/^@EVENTS@$/d' "$page"
}

# _html_trace EVENTS FOLDER: the trace on stdout.
_html_trace() {
    jq -nRr -f "$_html_folder/trace.jq" "$1"
}

# _html_write OUT MAKER EVENTS: what MAKER prints becomes OUT, by way of a file beside it that is then renamed. (A
# subshell, so that its trap and options are its own. Its caller may have switched `set -e` off: each step is checked.)
_html_write() (
    out=$1 maker=$2 events=$3
    set -o pipefail
    beside='' folder=''
    trap 'rm -rf -- ${beside:+"$beside"} ${folder:+"$folder"}' EXIT

    cannot() { # the error message of a program, of which the reason comes last
        local reason=${1%%$'\n'*}
        echo "forksafe: '$out' cannot be written: ${reason##*: }" >&2
        exit 2
    }
    export LC_ALL=C
    if [[ ! -f $events || ! -r $events ]]; then
        echo "forksafe: the events in '$events' cannot be read" >&2
        exit 2
    fi
    [[ -n $out ]] || cannot "its name is empty"
    [[ ! -d $out ]] || cannot "it is a folder"
    [[ ! -e $out || -w $out ]] || cannot "Permission denied"
    folder=$(mktemp -d 2>&1) || { reason=$folder folder='' && cannot "no temporary files: $reason"; }
    if [[ -e $out && ! -f $out ]]; then # a pipe or a device
        "$maker" "$events" "$folder" 2>"$folder/said" >"$out" || cannot "$(<"$folder/said")"
        exit 0
    fi
    target=$(realpath -m -- "$out") # a symbolic link stays one
    beside=$(mktemp -- "$target.XXXXXX" 2>&1) || { reason=$beside beside='' && cannot "$reason"; }
    # (The maker is in a subshell of its own, so that an error of the redirection is caught as well.)
    ("$maker" "$events" "$folder" >"$beside") 2>"$folder/said" || cannot "$(<"$folder/said")"
    if [[ -e $target ]]; then
        mode=$(stat -c %a -- "$target")
    else
        mode=$(printf '%o' $((0666 & ~0$(umask))))
    fi
    reason=$(chmod "$mode" -- "$beside" 2>&1 && mv -f -- "$beside" "$target" 2>&1) || cannot "$reason"
    beside=''
)
