# shellcheck shell=bash
# forksafe ps [--json] PID: the threads of a preloaded process, what they hold, and what they wait for.
# Sourced by scripts/forksafe. What is read comes from forksafe-ps (shim/tools/ps.c, which has the schema);
# `symbolise`, where it is defined, adds functions, lines and the locks' names.

ps_folder=$(dirname "$(realpath "${BASH_SOURCE[0]}")")

ps_usage="usage: forksafe ps [--json] PID

Shows the live threads of a process that was started with libforksafe.so preloaded: their state, the
locks that they hold and where they took them, and what each waits for, and who owns that. Works on a
hung process; reads its memory from outside, and stops nothing.

  --json   one JSON object instead of text
  --help   this text"

# Prints where forksafe-ps is: in a source tree, or installed.
ps_tool() {
    local path
    for path in "$ps_folder/../../build/forksafe-ps" "$ps_folder/../../libexec/forksafe/forksafe-ps"; do
        if [[ -x $path ]]; then
            printf '%s\n' "$path"
            return
        fi
    done
    echo "forksafe ps: forksafe-ps is missing: build it with make, or install forksafe anew" >&2
    return 1
}

ps_text() { # reads JSON
    jq -r '
        def base: sub(".*/"; "");
        def line: if .line then ":\(.line)" else "" end;
        def place:
            if .symbol then .symbol
            elif .function then .function + (if .file then " (\(.file | base)\(line))" else "" end)
            elif .module then "\(.module | base)+\(.offset)"
            else .address end;
        def owner: "\(.tid)\(if .name then " \(.name)" else "" end)" +
            (if .gone then " (gone)" elif .elsewhere then " (another process)" else "" end);
        def owners: if .owners == [] then "" else
            (if .kind == "thread" then ": " elif .kind == "fork" then " of " else ", held by " end)
            + (.owners | map(owner) | join(", ")) + (if .more_owners then " and \(.more_owners) more" else "" end) end;
        def what: if .call then .call else "\(.kind) \(.object | place)" end;
        def wait: if .kind == "fork" then "waits for the fork" else
            (if .role == "trying" then "tries " else "waits for " end)
            + (if .kind == "thread" then "the end of a thread" else what end) + " at \(.at | place)" end;
        def pad($width): . + " " * ([0, $width - length] | max);
        def row: "\(.[0] | pad(8)) \(.[1] | pad(16)) \(.[2] | pad(11)) \(.[3] | pad(24)) \(.[4])";
        "process \(.pid) (\(.program)), \(.forks) fork\(if .forks == 1 then "" else "s" end) deep"
            + (if .stopped then ", a fork is under way" else "" end),
        (["TID", "NAME", "STATE", "KERNEL", "DEPTH"] | row),
        (.threads[] |
            (.kernel + (if .call then " in \(.call)" else "" end)) as $kernel |
            ([(.tid | tostring), .name, .state, $kernel, (.depth | tostring)] | row),
            (.holds[] | (if .role == "releasing" then "releases" else "holds" end) as $verb |
                "         \($verb) \(what) at \(.at | place)"),
            (.inside[] | "         is inside \(what) at \(.at | place)"),
            (.waits[] | "         " + wait + owners))'
}

ps_main() {
    local json='' tool seen status=0 symbols=cat
    if [[ ${1-} == --help ]]; then
        printf '%s\n' "$ps_usage"
        return
    fi
    if [[ ${1-} == --json ]]; then
        json=1
        shift
    fi
    if [[ $# -ne 1 ]]; then
        echo "forksafe ps: give one process id; 'forksafe ps --help' says more" >&2
        return 2
    fi
    tool=$(ps_tool) || return 1
    seen=$("$tool" --json "$1") || status=$?
    if ((status != 0)); then
        return "$status"
    fi
    if declare -F symbolise >/dev/null; then
        symbols=symbolise
    fi
    if [[ -n $json ]]; then
        printf '%s\n' "$seen" | "$symbols"
    else
        printf '%s\n' "$seen" | "$symbols" | ps_text
    fi
}
