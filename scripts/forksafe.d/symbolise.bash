# shellcheck shell=bash
# shellcheck disable=SC2154 # $parts, $home and $work are the command's
# Functions, files and lines for the places of events: symbolise [CACHE], a filter of JSON Lines.
#
# All places of a module are looked up by one addr2line (binutils or elfutils) and one reading of its symbols. A
# module whose file is not the one that ran (by its build id) names nothing. CACHE is a folder that keeps what was
# looked up for the next call, and which modules were complained about.

debug_root=${FORKSAFE_DEBUG_ROOT:-/usr/lib/debug}

tool() { # NAME: addr2line or readelf, of binutils or elfutils
    if command -v "$1" >/dev/null; then
        echo "$1"
    elif command -v "eu-$1" >/dev/null; then
        echo "eu-$1"
    fi
}

build_id_of() { # FILE
    LC_ALL=C "$readelf" -n -- "$1" 2>/dev/null | awk '$1 == "Build" && $2 == "ID:" { print $3; exit }' || true
}

# KEY OFFSET lines in, "KEY code (FUNCTION FILE LINE)..." out: the innermost function first, then those that it was
# inlined into.
source_lines() { # FILE
    local requests=$scratch/requests
    cat >"$requests"
    { cut -f 2 "$requests" | sed 's/^/0x/' | LC_ALL=C "$addr2line" -a -f -i -C ${absolute:+"$absolute"} -e "$1" \
        2>/dev/null || true; } | LC_ALL=C awk -F '\t' -v eu="$absolute" '
        function flush() {
            if (out != "") print key[n] "\tcode" out
            out = ""
        }
        !answers { key[FNR] = $1; next }
        /^0x[0-9a-f]+$/ && length($0) >= 3 && want != "place" { flush(); n++; want = "function"; next }
        want == "function" {
            name = $0
            if (eu != "") sub(/ inlined at .*/, "", name)
            want = "place"
            next
        }
        want == "place" {
            place = $0
            sub(/ \(discriminator [0-9]+\)$/, "", place)
            if (eu != "" && place ~ /:[0-9]+:[0-9]+$/) sub(/:[0-9]+$/, "", place)
            line = place
            sub(/.*:/, "", line)
            sub(/:[^:]*$/, "", place)
            if (name != "??" && place != "??" && line + 0 > 0) out = out "\t" name "\t" place "\t" line
            want = "function"
        }
        END { flush() }' "$requests" answers=1 -
}

# "START SIZE TYPE NAME" of each function and object of the files, by start; fields are those of readelf -s.
symbols_of() { # FILE...
    local file
    for file; do
        LC_ALL=C "$readelf" -s ${wide:+"$wide"} -- "$file" 2>/dev/null || true
    done | LC_ALL=C awk '
        $1 ~ /^[0-9]+:$/ && NF >= 8 && $3 != "0" && $7 != "UND" && $7 != "UNDEF" && ($4 == "FUNC" || $4 == "OBJECT" ||
            $4 == "IFUNC" || $4 == "GNU_IFUNC" || $4 == "COMMON") {
            name = $8
            sub(/@.*/, "", name)
            under = name
            sub(/[^_].*/, "", under)
            kind = $4 == "OBJECT" || $4 == "COMMON" ? "data" : "code"
            print $2 "\t" $3 "\t" kind "\t" 100 - length(under) "\t" name
        }' | LC_ALL=C sort -t "$(printf '\t')" -k 1,1 -k 4,4n -u
}

# KEY OFFSET lines in; "KEY code NAME" or "KEY data NAME+0xOFF" out, where a symbol covers the place.
symbol_names() { # code|data SYMBOLS
    LC_ALL=C awk -F '\t' -v kind="$1" '
        function number(text,    i, sum, at) {
            if (text !~ /^x/ && text !~ /^0x/) return text + 0
            sub(/^0?x/, "", text)
            for (i = 1; i <= length(text); i++) sum = sum * 16 + index("0123456789abcdef", substr(text, i, 1)) - 1
            return sum
        }
        !places { if ($3 == kind) { start[++n] = "x" $1; size[n] = $2; name[n] = $5 } next }
        {
            low = 0
            high = n + 1
            at = "x" $2
            while (high - low > 1) {
                middle = int((low + high) / 2)
                if (start[middle] <= at) low = middle
                else high = middle
            }
            # A symbol inside a larger one is rare: a few steps back are enough.
            for (i = low; i > 0 && i > low - 8; i--) {
                past = number(at) - number(start[i])
                if (past < number(size[i])) {
                    print $1 "\t" kind "\t" name[i] (kind == "data" && past > 0 ? sprintf("+0x%x", past) : "")
                    break
                }
            }
        }' "$2" places=1 -
}

# The places of one module in $scratch/module (HOW MODULE BUILD OFFSET KEY), looked up.
look_up_module() { # PATH BUILD_ID
    local file=$1 debug='' disk='' id
    [[ $2 == - ]] || debug=$debug_root/.build-id/${2:0:2}/${2:2}.debug
    [[ -r $debug ]] || debug=
    if [[ -f $file && -r $file ]]; then
        id=$(build_id_of "$file")
        if [[ $2 == - || -z $id || $id == "$2" ]]; then
            disk=$file
        elif [[ -z $debug ]] && ! grep -qsxF -- "$2" "$cache/stale"; then
            say "the file $file is not the one that ran (another build id): no names for places in it"
            echo "$2" >>"$cache/stale"
        fi
    fi
    [[ -n $disk || -n $debug ]] || return 0
    # One less for a return address, in place of a number in hexadecimal, by awk (no strtonum in mawk).
    LC_ALL=C awk -F '\t' -v OFS='\t' '
        function less(text,    at, digit) {
            at = length(text)
            while (at > 1 && substr(text, at, 1) == "0") at--
            digit = index("0123456789abcdef", substr(text, at, 1)) - 2
            if (digit < 0) return text
            return substr(text, 1, at - 1) substr("0123456789abcdef", digit + 1, 1) \
                substr("ffffffffffffffff", 1, length(text) - at)
        }
        { print $5, ($1 == "call" ? less($4) : $4) > ($1 == "data" ? data : code) }' \
        data="$scratch/data" code="$scratch/code" "$scratch/module"
    if [[ -s $scratch/code && -n $addr2line ]]; then
        source_lines "${debug:-$disk}" <"$scratch/code" >"$scratch/lines"
        cat "$scratch/lines"
        # What has no line may have a symbol.
        LC_ALL=C awk -F '\t' '!new { seen[$1]; next } !($1 in seen)' "$scratch/lines" new=1 "$scratch/code" \
            >"$scratch/rest"
        mv "$scratch/rest" "$scratch/code"
    fi
    if [[ -s $scratch/code || -s $scratch/data ]]; then
        symbols_of ${disk:+"$disk"} ${debug:+"$debug"} >"$scratch/symbols"
        symbol_names code "$scratch/symbols" <"$scratch/code"
        symbol_names data "$scratch/symbols" <"$scratch/data"
    fi
}

look_up() { # the places in $scratch/new
    local module build path
    while IFS=$'\t' read -r module build; do
        MODULE=$module LC_ALL=C awk -F '\t' -v build="$build" '$2 == ENVIRON["MODULE"] && $3 == build' \
            "$scratch/new" >"$scratch/module"
        : >"$scratch/code"
        : >"$scratch/data"
        : >"$scratch/lines"
        printf -v path %b "$module"
        look_up_module "$path" "$build"
    done < <(cut -f 2,3 "$scratch/new" | LC_ALL=C sort -u)
}

demangle() {
    if command -v c++filt >/dev/null; then
        c++filt
    else
        cat
    fi
}

symbolise() ( # [CACHE]
    scratch=$(mktemp -d "${TMPDIR:-/tmp}/forksafe-symbols.XXXXXX") || exit 2
    trap 'rm -rf "$scratch"' EXIT
    cache=${1-$scratch}
    addr2line=$(tool addr2line) readelf=$(tool readelf) absolute='' wide=''
    [[ $addr2line != eu-* ]] || absolute=-A
    [[ $readelf == eu-* ]] || wide=-W
    if [[ -z $addr2line || -z $readelf ]] && [[ ! -e $cache/untold ]]; then
        say "no addr2line or readelf here: places are module and offset; apt-get install binutils (or elfutils)"
        : >"$cache/untold"
    fi
    touch "$cache/names" "$cache/looked-up"
    cat >"$scratch/events"
    jq_run -n -r --arg step list --slurpfile names /dev/null -f "$parts/symbolise.jq" "$scratch/events" \
        >"$scratch/places"
    LC_ALL=C awk -F '\t' '!new { seen[$0]; next } !($5 in seen)' "$cache/looked-up" new=1 "$scratch/places" \
        >"$scratch/new"
    if [[ -s $scratch/new ]]; then
        [[ -z $readelf ]] || look_up | demangle >>"$cache/names"
        cut -f 5 "$scratch/new" >>"$cache/looked-up"
    fi
    jq_run -n -R --arg step map --slurpfile names /dev/null -f "$parts/symbolise.jq" "$cache/names" >"$scratch/map"
    jq_run -c --arg step name --slurpfile names "$scratch/map" -f "$parts/symbolise.jq" "$scratch/events"
)
