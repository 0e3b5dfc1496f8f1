# The places of events, for symbolise.bash: listed ($step is "list") and given their names ("name").
#
# A place is looked up in one of three ways. "call": a return address, one byte before, inside the call; "exact":
# where a thread stood; "data": an object.
include "common";

def look($how): . + {how: $how};
def of_lock: (.at // empty | look("call")), (.stood // empty | look("exact")), (.object // empty | look("data")),
    (.stack // [] | .[] | look("call"));
def all_places:
    (.stack // [] | .[] | look("call")),
    (if .inherited | type == "array" then .inherited[] else .inherited // empty end | of_lock),
    (.fork.stack? // [] | .[] | look("call")),
    (if .event == "stuck" then {at, object} | of_lock else empty end),
    (if .event == "timeout" then .threads[] | .stack // [] | .[] | look("call") else empty end);

def is_nameless: .module and .offset and (.function or .symbol | not);
def key($how): "\($how) \(.offset) \(.build_id // "-") \(.module)";

# A path as printf %b reads it. (The library writes a byte as the character of that number.)
def as_bytes:
    explode | map(
        if (. >= 48 and . <= 57) or (. >= 65 and . <= 90) or (. >= 97 and . <= 122) or . == 47 or . == 46 or . == 45
            or . == 95 then [.] | implode
        elif . < 256 then "\\0\(. / 64 | floor)\(. / 8 % 8 | floor)\(. % 8)"
        else "?" end) | join("");

# Each place that has no name once: how, module, build id, offset, key.
def list:
    reduce (inputs | all_places | select(is_nameless)) as $place ({};
        ($place | key($place.how)) as $key | if has($key) then . else .[$key] = $place end)
    | to_entries[]
    | select(.value.offset | test("^0x[0-9a-f]{1,16}$"))
    | [.value.how, (.value.module | as_bytes), (.value.build_id // "-" | if test("^[0-9a-f]+$") then . else "-" end),
       (.value.offset[2:] | "0000000000000000"[length:] + .), .key]
    | @tsv;

# Lines of symbolise.bash, KEY "code" (FUNCTION FILE LINE)... or KEY "data" SYMBOL, as an object by key.
def frame: {function: .[0], file: .[1], line: (.[2] // "" | if test("^[1-9][0-9]*$") then tonumber else null end)}
    | with_entries(select(.value != null and .value != ""));
def unescaped: gsub("\\\\(?<c>[tnr\\\\])"; {"t": "\t", "n": "\n", "r": "\r", "\\": "\\"}[.c]);
def names:
    reduce (inputs | split("\t")) as $line ({};
        .[$line[0] | unescaped] = (
            if $line[1] == "data" then {symbol: $line[2]}
            else [$line[2:] | range(0; length; 3) as $at | .[$at:$at + 3] | frame]
                | .[0] + (if length > 1 then {inlined: .[1:]} else {} end) end));

def named($names):
    def name($how): if is_nameless then . + ($names[key($how)] // {}) else . end;
    def stack: map(name("call"));
    def lock:
        (if .object then .object |= name("data") else . end)
        | (if .at then .at |= name("call") else . end)
        | (if .stood then .stood |= name("exact") else . end)
        | (if .stack then .stack |= stack else . end);
    (if .stack then .stack |= stack else . end)
    | (if .inherited == null or .inherited == [] then .
       elif .inherited | type == "array" then .inherited |= map(lock)
       else .inherited |= lock end)
    | (if .fork | type == "object" then .fork.stack |= (. // [] | stack) else . end)
    | (if .event == "stuck" then lock else . end)
    | (if .event == "timeout" then .threads |= map(if .stack then .stack |= stack else . end) else . end);

if $step == "list" then list
elif $step == "map" then names
else named($names[0]) end
