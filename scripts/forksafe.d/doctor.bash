# shellcheck shell=bash
# shellcheck disable=SC2154 # $parts, $home and $work are the command's
# forksafe doctor: whether the dynamic linker will load the library into a program. A first version.

doctor_usage() {
    cat <<'EOF'
usage: forksafe doctor PROGRAM

Says whether the library can be preloaded into PROGRAM (a path, or a command to be found in PATH), one line for each
thing that is in the way: statically linked, setuid or with capabilities, another machine or 32 bits, musl. For a script
its interpreter is looked at.

Exit status: 0: it can; 1: it cannot; 2: bad usage, or the program cannot be read.
EOF
}

found() { # LINE: something that is in the way
    lines+=("$1")
    wrong=1
}

# Numbers of a file, unsigned and in the machine's (little-endian) order.
numbers() { # FILE OFFSET COUNT SIZE
    LC_ALL=C od -An -v -t "u$4" -j "$2" -N $(($3 * $4)) -- "$1" 2>/dev/null | tr -s ' \n' ' '
}

# The file's capabilities, if that can be known.
capabilities() { # FILE
    if command -v getcap >/dev/null; then
        getcap -- "$1" 2>/dev/null | sed 's/^.* //'
    elif [[ -x /sbin/getcap || -x /usr/sbin/getcap ]]; then
        PATH=$PATH:/sbin:/usr/sbin getcap -- "$1" 2>/dev/null | sed 's/^.* //'
    elif command -v perl >/dev/null; then
        # 191 is getxattr on x86-64.
        perl -e '$buffer = "\0" x 64; $name = "security.capability";
            print "some" if syscall(191, $ARGV[0], $name, $buffer, 64) > 0' "$1" 2>/dev/null || true
    fi
}

# Privileges: the dynamic linker then ignores LD_PRELOAD (ld.so(8), secure-execution mode).
look_at_privileges() { # FILE
    local some
    if [[ -u $1 ]]; then
        found "$1 is setuid ($(stat -c %U -- "$1")): the dynamic linker ignores LD_PRELOAD for whoever is another user"
    fi
    if [[ -g $1 ]]; then
        found "$1 is setgid ($(stat -c %G -- "$1")): the dynamic linker ignores LD_PRELOAD for those of another group"
    fi
    some=$(capabilities "$1")
    [[ -z $some ]] || found "$1 has file capabilities ($some): the dynamic linker ignores LD_PRELOAD"
}

# The program interpreter (PT_INTERP) of a 64-bit program, or nothing.
interpreter_of() { # FILE
    local -a header part
    local i
    # e_phoff is 8 bytes at 32; e_phentsize and e_phnum are 2 bytes each at 54 and 56.
    read -ra header <<<"$(numbers "$1" 32 1 8) $(numbers "$1" 54 2 2)"
    ((${#header[@]} == 3)) || return 0
    for ((i = 0; i < header[2]; i++)); do
        # p_type, 4 bytes; p_offset, 8 bytes at 8; p_filesz, 8 bytes at 32.
        read -ra part <<<"$(numbers "$1" $((header[0] + i * header[1])) 1 4) $(numbers "$1" $((header[0] + \
            i * header[1] + 8)) 1 8) $(numbers "$1" $((header[0] + i * header[1] + 32)) 1 8)"
        if ((${#part[@]} == 3 && part[0] == 3 && part[2] > 1 && part[2] < 4096)); then
            { tail -c "+$((part[1] + 1))" -- "$1" 2>/dev/null || true; } | head -c $((part[2] - 1)) | tr -dc '[:print:]'
            return 0
        fi
    done
}

look_at_elf() { # FILE
    local -a ident machine
    local interpreter
    # The class (2: 64 bits), the byte order (1: little), and at 18 the machine (62: x86-64).
    read -ra ident <<<"$(numbers "$1" 4 2 1)"
    read -ra machine <<<"$(numbers "$1" 18 1 2)"
    if ((${#ident[@]} < 2 || ${#machine[@]} < 1)); then
        found "$1 is cut short: no program"
        return
    fi
    if ((ident[1] != 1 || (machine[0] != 62 && machine[0] != 3))); then
        found "$1 is for another kind of machine (ELF machine ${machine[0]}): the library is for x86-64"
        return
    fi
    if ((ident[0] != 2 || machine[0] != 62)); then
        found "$1 is a 32-bit program: the library is for x86-64, 64 bits"
        return
    fi
    interpreter=$(interpreter_of "$1")
    if [[ -z $interpreter ]]; then
        found "$1 is statically linked (it names no dynamic linker): nothing can be preloaded into it"
    elif [[ $interpreter == */ld-musl-* ]]; then
        found "$1 is linked with musl ($interpreter): the library is for glibc"
    elif [[ ! -e $interpreter ]]; then
        found "$1 needs the dynamic linker $interpreter, which is not there: it cannot run at all"
    elif [[ $interpreter != */ld-linux-x86-64.so.2 && $interpreter != */ld-[0-9]*.so ]]; then
        found "$1 has a dynamic linker that is not glibc's ($interpreter): the library is for glibc"
    fi
    look_at_privileges "$1"
}

# The interpreter that a script names, followed through env.
look_at_script() { # FILE DEPTH
    local line interpreter
    local -a words
    IFS= read -r line < <(head -c 512 -- "$1" | tr -d '\0\r') || true
    read -ra words <<<"${line#\#!}"
    interpreter=${words[0]-}
    if [[ ${interpreter##*/} == env ]]; then
        words=("${words[@]:1}")
        while [[ ${words[0]-} == -* || ${words[0]-} == *=* ]]; do
            words=("${words[@]:1}")
        done
        interpreter=${words[0]-}
    fi
    if [[ -z $interpreter ]]; then
        found "$1 is a script that names no interpreter"
    elif (($2 >= 5)); then
        found "$1 is a script whose interpreter is a script, and so on: too deep"
    else
        lines+=("$1 is a script: its interpreter is $interpreter")
        look_at "$interpreter" $(($2 + 1))
    fi
}

look_at() { # PROGRAM DEPTH
    local path=$1 start
    [[ $path == */* ]] || path=$(type -P -- "$1" || true)
    if [[ -z $path ]]; then
        found "$1: there is no such command in PATH"
        return
    elif [[ ! -e $path ]]; then
        found "$1: there is no such file"
        return
    elif [[ ! -f $path ]]; then
        found "$1 is no program file"
        return
    fi
    if [[ ! -x $path ]]; then
        found "$path is not executable"
        return
    fi
    if ! start=$(head -c 4 -- "$path" 2>/dev/null | od -An -t x1 | tr -d ' \n') || [[ ! -r $path ]]; then
        fail "$path cannot be read: permission denied"
    fi
    case $start in
        7f454c46) look_at_elf "$path" ;;
        2321*) look_at_script "$path" "$2" ;;
        '') found "$path is empty" ;;
        *) found "$path is neither a program (ELF) nor a script with an interpreter" ;;
    esac
}

doctor_main() {
    local wrong=0 program=
    local -a lines=()
    while (($# > 0)); do
        case $1 in
            -h | --help)
                doctor_usage | to_stdout
                return
                ;;
            --)
                shift
                break
                ;;
            -?*) misuse "unknown option '$1'" ;;
            *) break ;;
        esac
    done
    [[ -n ${1-} ]] || misuse "no program"
    (($# == 1)) || misuse "one program at a time, not also '$2'"
    program=$1
    look_at "$program" 0
    ((wrong > 0)) || lines+=("$program: the library can be preloaded")
    printf '%s\n' "${lines[@]}" | to_stdout
    return "$wrong"
}
