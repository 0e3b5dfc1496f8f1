# shellcheck shell=bash
# shellcheck disable=SC2154 # $parts, $home and $work are the command's
# What the verbs of scripts/forksafe share. Here $parts is the folder of this file, $home that of the command.

# shellcheck disable=SC2034 # for the command
version=$(cat "$parts/version" 2>/dev/null || sed -n 's/^VERSION := //p' "$home/../Makefile" 2>/dev/null || echo unknown)
# shellcheck disable=SC2034
schema=1
verb=${verb-}

say() { # LINE: to stderr, by a single write
    printf 'forksafe: %s\n' "$1" >&2
}

fail() { # LINE [STATUS]: the verb cannot go on
    say "${verb:+$verb: }$1"
    exit "${2-2}"
}

misuse() { # LINE: bad usage
    local prefix=
    [[ $verb != run && $verb != report && $verb != ps && $verb != doctor ]] || prefix="$verb: "
    say "$prefix$1; \`forksafe${prefix:+ $verb} --help\` tells the usage"
    exit 2
}

# The value of an option, from "--option=value" or the next word: sets $value, and $words to how many words it took.
option_value() { # WORD [NEXT]
    if [[ $1 == *=* ]]; then
        value=${1#*=} words=1
    elif (($# > 1)); then
        value=$2 words=2
    else
        misuse "$1 needs a value"
    fi
    [[ -n $value ]] || misuse "${1%%=*} needs a value that is not empty"
}

need() { # COMMAND...
    local command
    for command; do
        command -v "$command" >/dev/null || fail "$command is not installed, and is needed: apt-get install $command"
    done
}

# Sources a part that the installation may lack.
part() { # FILE WHAT
    [[ -r $parts/$1 ]] || fail "$2: not in this installation ($parts/$1 is missing); install forksafe whole"
    # shellcheck source=/dev/null
    source "$parts/$1"
}

jq_run() { # ARGUMENT...: jq with the library of common.jq
    jq -L "$parts" "$@"
}

# A folder for this run's own files, removed at the end: $work.
make_work() {
    work=$(mktemp -d "${TMPDIR:-/tmp}/forksafe.XXXXXX") ||
        fail "no temporary folder in ${TMPDIR:-/tmp}: set TMPDIR to one that can be written"
    trap 'rm -rf "$work"' EXIT
}

why() { # FILE: the reason at the end of a command's error message there
    local text
    text=$(tail -n 1 "$1")
    echo "${text##*: }"
}

# Standard input to standard output; one line where that fails (a full disk).
to_stdout() {
    local error status=0
    { error=$(cat 2>&1 >&3 3>&-) || status=$?; } 3>&1
    ((status == 0)) || ((status > 128)) || fail "standard output cannot be written: ${error##*: }"
    return "$status"
}

# True if the file can be created or written, as far as that can be known before.
can_write() { # FILE
    local folder
    folder=$(dirname "$1")
    if [[ -d $1 ]]; then
        say "$verb: '$1' cannot be written: it is a folder"
    elif [[ -e $1 && ! -w $1 ]]; then
        say "$verb: '$1' cannot be written: permission denied"
    elif [[ ! -e $1 && ! -d $folder ]]; then
        say "$verb: '$1' cannot be written: there is no folder '$folder'"
    elif [[ ! -e $1 && ! -w $folder ]]; then
        say "$verb: '$1' cannot be written: permission denied in '$folder'"
    else
        return 0
    fi
    return 1
}

# Standard input to a file, which is never seen half-written; a device or a pipe is written to as it is.
# Returns 1, after one line, where that fails.
write_output() { # FILE
    local target=$1 beside='' status=0 error=${work:-/tmp}/write-error
    can_write "$1" || return 1
    if [[ ! -e $target || -f $target ]]; then
        target=$(realpath -m -- "$target")
        beside=$(mktemp "$target.XXXXXX" 2>"$error") || status=1
        ((status == 0)) && { cat >"$beside"; } 2>"$error" || status=1
        ((status == 0)) && chmod "$(printf '%o' $((0666 & ~0$(umask))))" "$beside" 2>"$error" || status=1
        ((status == 0)) && mv -f -- "$beside" "$target" 2>"$error" || status=1
        ((status == 0)) || rm -f -- "${beside:-$error}"
    else
        { cat >"$target"; } 2>"$error" || status=1
    fi
    ((status == 0)) || say "$verb: '$1' cannot be written: $(why "$error")"
    return "$status"
}
