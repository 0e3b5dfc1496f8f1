# html.jq: symbolised events, one JSON object a line (read with -nR), made small for report.html.
#
# Called twice. Without a table (--argjson table '[]') it prints one: {"unread": lines that are no event of version 1,
# "places": every place once}. With that table (--slurpfile) it prints {"unread", "places", "events"}, where each place
# is a number, its index in "places". Without that, a page about 5,000 forks would be several times as large.

def event:
    try (fromjson | if type == "object" and .v == 1 and (.event | type) == "string" and (.time | type) == "number"
        and (.pid | type) == "number" then . else null end) catch null;

# In a `fork` a list, in a `deadlock` a single one.
def holds: .inherited | if type == "array" then .[] elif type == "object" then . else empty end | objects;

def each_place:
    ((., holds) | .object, .at, .stood, (.stack | arrays | .[])),
    (.fork | objects | .stack | arrays | .[]),
    (.threads | arrays | .[] | objects | .stack | arrays | .[])
    | objects;

def number($index): if type == "object" then $index[tojson] else null end;
def number_stack($index): if type == "array" then map(number($index)) else [] end;
def number_own($index):
    (if has("object") then .object = (.object | number($index)) else . end)
    | (if has("at") then .at = (.at | number($index)) else . end)
    | (if has("stood") then .stood = (.stood | number($index)) else . end)
    | (if has("stack") then .stack = (.stack | number_stack($index)) else . end);
def number_all($index):
    number_own($index)
    | (if (.inherited | type) == "array" then .inherited = (.inherited | map(objects | number_own($index)))
       elif (.inherited | type) == "object" then .inherited = (.inherited | number_own($index)) else . end)
    | (if (.fork | type) == "object" then .fork = (.fork | number_own($index)) else . end)
    | (if (.threads | type) == "array" then .threads = (.threads | map(objects | number_own($index))) else . end)
    | del(.v);

if $table == [] then
    reduce (inputs | select(test("^\\s*$") | not) | event) as $event ({unread: 0, seen: {}};
        if $event == null then .unread += 1
        else reduce ($event | each_place | tojson) as $place (.; .seen[$place] = true) end)
    | {unread, places: (.seen | keys | map(fromjson))}
else
    (reduce ($table[0].places | keys[]) as $i ({}; .[$table[0].places[$i] | tojson] = $i)) as $index
    | "{\"unread\":\($table[0].unread),\"places\":\($table[0].places | tojson),\"events\":[",
      # (A comma stands before every event but the first.)
      foreach (inputs | event | values | number_all($index) | tojson) as $event (-1; . + 1;
          if . == 0 then $event else "," + $event end),
      "]}"
end
