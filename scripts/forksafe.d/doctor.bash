# shellcheck shell=bash
# shellcheck disable=SC2154 # $parts, $home and $work are the command's
# forksafe doctor: whether the dynamic linker will load the library into a program, and whether the program's locks and
# forks then come its way. What is in the headers is read with od; what is in the tables needs readelf.

doctor_usage() {
    cat <<'EOF'
usage: forksafe doctor PROGRAM

Says whether the library can be preloaded into PROGRAM (a path, or a command to be found in PATH), one line for each
thing that is in the way: statically linked, setuid or with capabilities, another machine or 32 bits, musl, a glibc that
is not there; and for each thing that the library would not see: locks of the program's own, or of a library that it is
linked with, and Go. For a script its interpreter is looked at.

Exit status: 0: it can; 1: it cannot, or not for all; 2: bad usage, or the program cannot be read.
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

# The program headers of a 64-bit file: an element "TYPE OFFSET SIZE" each in $segments. Returns 1 where the file ends
# before they do.
read_segments() { # FILE
    local -a header part
    local i
    # e_phoff is 8 bytes at 32; e_phentsize and e_phnum are 2 bytes each at 54 and 56.
    read -ra header <<<"$(numbers "$1" 32 1 8) $(numbers "$1" 54 2 2)"
    segments=()
    ((${#header[@]} == 3)) || return 1
    for ((i = 0; i < header[2]; i++)); do
        # p_type, 4 bytes; p_offset, 8 bytes at 8; p_filesz, 8 bytes at 32.
        read -ra part <<<"$(numbers "$1" $((header[0] + i * header[1])) 1 4) $(numbers "$1" $((header[0] + \
            i * header[1] + 8)) 1 8) $(numbers "$1" $((header[0] + i * header[1] + 32)) 1 8)"
        ((${#part[@]} == 3)) || return 1
        segments+=("${part[*]}")
    done
}

bytes() { # FILE OFFSET COUNT: what can be printed of it
    { tail -c "+$(($2 + 1))" -- "$1" 2>/dev/null || true; } | head -c "$3" | tr -dc '[:print:]'
}

# Of $segments: the program interpreter in $interpreter, whether Go's linker was at work in $go, whether it is a
# position-independent program in $pie. Returns 1 where the file ends before what they name.
read_parts() { # FILE
    local segment type offset size length i
    local -a pair
    interpreter='' go=false pie=false
    length=$(stat -L -c %s -- "$1")
    for segment in "${segments[@]}"; do
        read -r type offset size <<<"$segment"
        ((type != 1 || offset + size <= length)) || return 1
        case $type in
            2) # PT_DYNAMIC: pairs of a tag and a value; DT_FLAGS_1 is 0x6ffffffb, and DF_1_PIE 0x8000000 of it
                for ((i = 0; i + 16 <= size && i < 4096; i += 16)); do
                    read -ra pair <<<"$(numbers "$1" $((offset + i)) 2 8)"
                    ((${#pair[@]} == 2)) || break
                    ((pair[0] != 0x6ffffffb || !(pair[1] & 0x8000000))) || pie=true
                done
                ;;
            3) # PT_INTERP
                ((offset + size <= length)) || return 1
                ((size < 2 || size > 4096)) || interpreter=$(bytes "$1" "$offset" $((size - 1)))
                ;;
            4) # PT_NOTE: the length of its first name, 4 bytes, then two more numbers, and the name
                [[ $(numbers "$1" "$offset" 1 4) != " 4 " || $(bytes "$1" $((offset + 12)) 4) != Go ]] || go=true
                ;;
        esac
    done
}

# readelf, or elfutils'; nothing where neither is installed.
reader() {
    command -v readelf || command -v eu-readelf || true
}

# Where a program has a function of its own under one of these names, what the library does for it is passed by.
watched='pthread_(mutex_lock|create|cond_wait|rwlock_wrlock|atfork)|sem_wait|fork'

# The watched names that a file defines, in both its tables of symbols. Those that a sanitizer puts before libc's call
# the next definition, which is ours.
own_names() { # READELF FILE
    LC_ALL=C "$1" -Ws -- "$2" 2>/dev/null | awk -v watched="^($watched)\$" '
        $4 == "FUNC" && $7 != "UNDEF" && $7 != "UND" {
            name = $8
            sub(/@.*/, "", name)
            if (name ~ watched) found[name] = 1
            if (sub(/^_*interceptor_(trampoline_)?/, "", name)) passed[name] = 1
        }
        END { for (name in found) if (!(name in passed)) print name }' | sort | tr '\n' ' ' | sed 's/ $//'
}

# The highest GLIBC_ version that a file needs.
glibc_of() { # READELF FILE
    LC_ALL=C "$1" -V -- "$2" 2>/dev/null | sed -n '/ersion needs/,$p' | { grep -oE '\bGLIBC_[0-9]+(\.[0-9]+)+' || true; } |
        sed 's/^GLIBC_//' | sort -uV | tail -n 1
}

newer() { # A B: true if version A is higher than B
    [[ -n $1 && -n $2 && $1 != "$2" && $(printf '%s\n' "$1" "$2" | sort -V | tail -n 1) == "$1" ]]
}

# Old programs may want condition variables as they were before glibc 2.3.2, which have another layout.
look_at_versions() { # READELF FILE
    local here needed place old
    here=$(getconf GNU_LIBC_VERSION 2>/dev/null | sed 's/^glibc //')
    needed=$(glibc_of "$1" "$2")
    if newer "$needed" "$here"; then
        found "$2 needs glibc $needed, and here is $here: it cannot run"
    fi
    for place in "$home/../build/libforksafe.so" "$home/../lib/libforksafe.so"; do
        needed=''
        [[ ! -r $place ]] || { needed=$(glibc_of "$1" "$place") && break; }
    done
    if newer "$needed" "$here"; then
        found "the library needs glibc $needed, and here is $here: nothing can be preloaded"
    fi
    old=$(LC_ALL=C "$1" -Ws -- "$2" 2>/dev/null | { grep -oE 'UND(EF)? +pthread_cond_[a-z]+@GLIBC_2\.2\.5\b' || true; } |
        sed 's/^[^ ]* */ /; s/@.*//' | sort -u | tr -d '\n')
    [[ -z $old ]] || found "$2 was linked with a glibc older than 2.3.2 (it calls the old$old): its condition variables are not seen"
}

# What the dynamic linker would load, as ldd finds it. Only glibc's own is run.
look_at_libraries() { # READELF FILE
    local name arrow path rest own
    while read -r name arrow path rest; do
        [[ $arrow == '=>' ]] || continue
        if [[ "$path $rest" == 'not found'* ]]; then
            found "$2 needs $name, which is not there: it cannot run"
            continue
        fi
        case ${name##*/} in
            libc.so.6 | libpthread.so.0 | librt.so.1 | libforksafe.so | lib[atu]*san.so.*) continue ;;
        esac
        own=$(own_names "$1" "$path")
        [[ -z $own ]] ||
            found "$path, which $2 is linked with, has functions of its own for $own: what goes through them is not seen"
        ! LC_ALL=C "$1" -WS -- "$path" 2>/dev/null | grep -qE ' \.(note\.go\.buildid|go\.buildinfo) ' ||
            found "$path, which $2 is linked with, is a Go library: its threads and locks are not seen"
    done < <(env -u LD_PRELOAD -u LD_AUDIT LC_ALL=C LD_TRACE_LOADED_OBJECTS=1 "$interpreter" "$2" 2>/dev/null || true)
}

# What the tables say of a program that glibc's dynamic linker loads.
look_at_tables() { # FILE
    local readelf own
    readelf=$(reader)
    if [[ -z $readelf ]]; then
        lines+=("$1: its symbols and libraries were not looked at, for want of readelf: apt-get install binutils")
        return
    fi
    if $go || LC_ALL=C "$readelf" -WS -- "$1" 2>/dev/null | grep -qE ' \.(note\.go\.buildid|go\.buildinfo) '; then
        found "$1 is built by Go: its threads and locks are made by system calls, which the library does not see"
    fi
    own=$(own_names "$readelf" "$1")
    [[ -z $own ]] || found "$1 has functions of its own for $own: what goes through them is not seen"
    look_at_versions "$readelf" "$1"
    look_at_libraries "$readelf" "$1"
}

look_at_elf() { # FILE
    local -a ident kind segments
    local interpreter go pie with=''
    # The class (2: 64 bits), the byte order (1: little); at 16 what it is (1: object file, 2: program, 3: program or
    # shared library, 4: core), and the machine (62: x86-64).
    read -ra ident <<<"$(numbers "$1" 4 2 1)"
    read -ra kind <<<"$(numbers "$1" 16 2 2)"
    if ((${#ident[@]} < 2 || ${#kind[@]} < 2)); then
        found "$1 is cut short: no program"
        return
    fi
    if ((ident[1] != 1 || (kind[1] != 62 && kind[1] != 3))); then
        found "$1 is for another kind of machine (ELF machine ${kind[1]}): the library is for x86-64"
        return
    fi
    if ((ident[0] != 2 || kind[1] != 62)); then
        found "$1 is a 32-bit program: the library is for x86-64, 64 bits"
        return
    fi
    if ((kind[0] != 2 && kind[0] != 3)); then
        found "$1 is an object file or a core dump: no program"
        return
    fi
    if ! read_segments "$1" || ! read_parts "$1"; then
        found "$1 is cut short: no program"
        return
    fi
    if [[ -z $interpreter ]]; then
        ! $go || with=", by Go without cgo"
        if ((kind[0] == 2)); then
            found "$1 is statically linked$with (it names no dynamic linker): nothing can be preloaded into it"
        elif $pie; then
            found "$1 is statically linked$with (static-pie: it names no dynamic linker): nothing can be preloaded into it"
        else
            found "$1 is a shared library: no program"
        fi
    elif [[ $interpreter == */ld-musl-* ]]; then
        found "$1 is linked with musl ($interpreter): the library is for glibc"
    elif [[ ! -e $interpreter ]]; then
        found "$1 needs the dynamic linker $interpreter, which is not there: it cannot run at all"
    elif [[ $interpreter != */ld-linux-x86-64.so.2 && $interpreter != */ld-[0-9]*.so ]]; then
        found "$1 has a dynamic linker that is not glibc's ($interpreter): the library is for glibc"
    else
        look_at_tables "$1"
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
    elif [[ -d $path ]]; then
        found "$1 is a folder: no program"
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
