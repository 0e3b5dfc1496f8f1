# bash completion for forksafe(1).
# shellcheck shell=bash

# Fills COMPREPLY from its words, those that begin with what has been typed.
_forksafe_words() {
    mapfile -t COMPREPLY < <(compgen -W "$1" -- "$current")
}

_forksafe_files() {
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
    compopt -o filenames 2>/dev/null || true # not inside a completion: a test calls this by hand
}

# Processes of this user into which the library is preloaded.
_forksafe_pids() {
    local map found=()
    for map in /proc/[0-9]*/maps; do
        if grep -qs '/libforksafe[^/]*\.so' "$map"; then
            map=${map#/proc/}
            found+=("${map%/maps}")
        fi
    done 2>/dev/null
    _forksafe_words "${found[*]}"
}

# _forksafe_value OPTION: completes the option's value; fails for an option that has none.
_forksafe_value() {
    case $1 in
        --mode) _forksafe_words "repair detect off" ;;
        --fail-on) _forksafe_words "deadlock forced held never" ;;
        --report | --junit | --sarif | --html | --trace) _forksafe_files ;;
        --timeout) COMPREPLY=() ;;
        *) return 1 ;;
    esac
}

# The command of `run` begins at word $1: what that command's own completion says, if there is one.
_forksafe_command() {
    if ((COMP_CWORD == $1)); then
        if [[ $current == */* ]]; then
            _forksafe_files
        else
            mapfile -t COMPREPLY < <(compgen -c -- "$current" | sort -u)
        fi
    elif declare -F _command_offset >/dev/null; then
        _command_offset "$1"
    else
        _forksafe_files
    fi
}

_forksafe() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} verb=${COMP_WORDS[1]} i
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        _forksafe_words "run report ps doctor --help --version"
        return
    fi

    # Where `run`'s own options end, at `--` or the first word that is neither an option nor its value.
    if [[ $verb == run ]]; then
        for ((i = 2; i < COMP_CWORD; i++)); do
            case ${COMP_WORDS[i]} in
                --)
                    _forksafe_command $((i + 1))
                    return
                    ;;
                --mode | --fail-on | --report | --junit | --sarif | --timeout)
                    # `--mode=detect` comes as three words.
                    [[ ${COMP_WORDS[i + 1]-} == = ]] && ((i + 1 < COMP_CWORD)) && i=$((i + 1))
                    i=$((i + 1))
                    ;;
                -*) ;;
                *)
                    _forksafe_command "$i"
                    return
                    ;;
            esac
        done
    fi

    if [[ $current == = ]]; then
        current='' && _forksafe_value "$previous" && return
    elif [[ $previous == = ]]; then
        _forksafe_value "${COMP_WORDS[COMP_CWORD - 2]}" && return
    else
        _forksafe_value "$previous" && return
    fi
    case $verb in
        run)
            if [[ $current == -* ]]; then
                _forksafe_words "--mode --fail-on --report --junit --sarif --timeout --help --"
            else
                _forksafe_command "$COMP_CWORD"
            fi
            ;;
        report)
            if [[ $current == -* ]]; then
                _forksafe_words "--html --trace --help"
            else
                _forksafe_files
            fi
            ;;
        ps)
            if [[ $current == -* ]]; then
                _forksafe_words "--json --help"
            else
                _forksafe_pids
            fi
            ;;
        doctor)
            if [[ $current == -* ]]; then
                _forksafe_words "--help"
            else
                _forksafe_command "$COMP_CWORD"
            fi
            ;;
    esac
}

complete -F _forksafe forksafe
