# What the reports share: reading events, names of places, and what is worth telling (findings).

# --- reading -----------------------------------------------------------------------------------------------------

def is(kind): type == kind;
def is_list_of(kind): type == "array" and all(.[]; type == kind);
def is_thread: . == null or (is("object") and (.tid | is("number")) and (.name | is("string")));
def is_place: . == null or (is("object")
    and all(.module, .offset, .address, .build_id, .function, .file, .symbol; . == null or is("string")));
def is_stack: is_list_of("object") and all(.[]; is_place);
def is_inherited: is("object") and (.kind | is("string")) and (.thread | is_thread)
    and all(.object, .at, .stood; is_place) and ((.stack // []) | is_stack);

# Whether an object is an event as this version writes them. Unknown kinds of event are nobody's fault.
def is_event:
    (.pid | is("number")) and (.time | is("number")) and (.program | is("string"))
    and (if .event == "fork" then
            (.child | is("number")) and (.thread | is_thread) and (.stack | is_stack) and (.stop | is("object"))
            and (.inherited | is("array")) and all(.inherited[]; is_inherited)
        elif .event == "deadlock" then
            (.thread | is_thread) and (.stack | is_stack) and (.inherited | is_inherited) and (.fork | is("object"))
            and (.fork.thread | is_thread) and ((.fork.stack // []) | is_stack)
        elif .event == "stuck" then
            (.thread | is_thread) and (.stack | is_stack) and (.owner | is_thread) and all(.object, .at; is_place)
        elif .event == "timeout" then
            (.threads | is_list_of("object")) and all(.threads[]; is_thread and ((.stack // []) | is_stack))
        elif .event == "config" then (.options | is("object"))
        else true end);

# A line of an event file: {event}, or {problem}; the number of the line is added by the caller.
def read_line:
    . as $line
    | (try {value: fromjson} catch {})
    | if has("value") | not then {problem: "is cut or no JSON"}
      elif (.value | type) != "object" or (.value.event | type) != "string" then {problem: "is no event"}
      elif .value.v != 1 then {problem: "is an event of version \(.value.v | tojson), and this is for version 1"}
      elif .value | is_event | not then {problem: "is no event as version 1 has them"}
      else {event: .value} end;

# --- words -------------------------------------------------------------------------------------------------------

def hex2: "0123456789abcdef" as $digits | ((. / 16) | floor) as $high | (. % 16) as $low
    | $digits[$high:$high + 1] + $digits[$low:$low + 1];

# The library writes a byte that is not ASCII as the character of that number. Where the bytes are UTF-8, say so.
def decoded:
    if test("[\u0080-\u00ff]") and (test("[^\u0000-\u00ff]") | not) then
        . as $text
        | reduce explode[] as $byte ({out: [], left: 0, code: 0, bad: false};
            if .bad then .
            elif .left > 0 then
                if $byte >= 128 and $byte < 192 then
                    .code = .code * 64 + $byte - 128 | .left -= 1
                    | if .left == 0 then .out += [.code] else . end
                else .bad = true end
            elif $byte < 128 then .out += [$byte]
            elif $byte >= 194 and $byte < 224 then .left = 1 | .code = $byte - 192
            elif $byte >= 224 and $byte < 240 then .left = 2 | .code = $byte - 224
            elif $byte >= 240 and $byte < 245 then .left = 3 | .code = $byte - 240
            else .bad = true end)
        | if .bad or .left > 0 or any(.out[]; . >= 55296 and . < 57344 or . > 1114111) then $text
          else .out | implode end
    else . end;

# As a line of text may have it: no control characters.
def shown:
    decoded
    | if test("[\u0000-\u001f\u007f-\u009f\u2028\u2029]") then
        explode | map(if . < 32 or (. >= 127 and . < 160) then "\\x" + hex2
                      elif . == 8232 or . == 8233 then " "
                      else [.] | implode end) | add
      else . end;

def base: split("/") | last;
def counted($one; $many): if . == 1 then "1 " + $one else "\(.) " + $many end;
def counted($one): counted($one; $one + "s");

# A thread: thread "worker" (tid 9)
def who: if . == null then "a thread" else "thread \"\(.name | shown)\" (tid \(.tid))" end;

def in_file: if .file then "\(.file | base | shown)\(if .line then ":\(.line)" else "" end)" else null end;
def in_module: if .module then "\(.module | base | shown)\(if .offset then "+" + .offset else "" end)"
               else .address // "?" end;

# A place: log_line (poold.c:120), or as much as is known of it.
def where:
    if . == null then "a place unknown"
    elif .function then "\(.function | shown) (\(in_file // in_module))"
    else in_module end;

# A stack in one line, the innermost first; what libc calls main with says nothing.
def unrolled: map(., (.inlined // [])[]);
def as_stack:
    unrolled
    | (map(.function) | index("main")) as $main
    | if $main then .[:$main + 1] else . end
    | (if length > 24 then .[:24] | map(where) + ["..."] else map(where) end)
    | if length == 0 then "unknown" else join(" < ") end;

# The lock, as the program calls it if that is known.
def lock_name:
    if .kind == "libc call" then "\(.call // "a libc call" | shown)"
    else "\(.kind | shown) " + (
        if .object.symbol then .object.symbol | shown
        elif .object.module and .object.offset then .object | in_module
        else "at \(.address // .object.address // "an unknown address")" end) end;

# --- findings ----------------------------------------------------------------------------------------------------

def is_ours: (.module // "" | base) == "libforksafe.so";
def without_ours: . as $all | (map(is_ours) | index(false)) as $first | if $first then $all[$first:] else $all end;

def process: "process \(.pid) \"\(.program | shown)\"";

# Of an inherited lock or call: who had it, in one line. $when is for a lock that was held.
def had_by($when):
    (if .kind == "libc call" then "inside \(.call // "libc" | shown) at the fork: "
     elif .role == "waiter" then "waited for at the fork by "
     elif .role == "taking" then "being taken at the fork by "
     elif .role == "releasing" then "being released at the fork by "
     else "held \($when) by " end)
    + "\(.thread | who), which vanished; "
    + (if .kind == "libc call" then "called at " elif .role == "waiter" then "waiting at " else "taken at " end)
    + (.at | where);

def more_of_holder:
    (if .stack | length > 0 then "taken with the stack: \(.stack | as_stack)" else empty end),
    (if .stood then "that thread stood at \(.stood | where)" else empty end);

def forked_by: "forked at \(.stack[0] | where) by \(.thread | who)";

def raw: if . == null then "?" elif .module then "\(.module)+\(.offset)" else "memory" end;
def key_of($rule; $inherited; $stacks):
    [$rule, $inherited.role, $inherited.kind, $inherited.call, ($inherited.object | raw), ($inherited.at | raw),
     ($stacks | map(.[:4] | map(raw)))] | tojson;

# A finding: rule, level, title (one line), lines (below it), place (where to look first), related, stack, key
# (the same for the same mistake made again).
def of_deadlock:
    .inherited as $lock | (.what // "" | tostring) as $what | (.stack | without_ours) as $stack
    | ({"blocks": "blocks on", "busy": "finds busy", "destroys": "destroys", "signals": "signals"}
        | .[$what]) as $verb
    | {rule: "deadlock", level: "error", time, pid,
       title: ("\(process) (forked by \(.fork.pid // "?")): \(.thread | who) "
            + (if $lock.kind == "libc call" then "calls \(.call // "libc" | tostring | shown) at \($stack[0] | where), "
                    + "and may need a lock of \($lock.call // "libc" | shown)"
               else "\($verb // "runs into") \($lock | lock_name)" end)),
       lines: [($lock | had_by("since the fork"), more_of_holder), "child's stack: \($stack | as_stack)",
            (.fork | forked_by),
            (if $lock.kind == "libc call" and $lock.unsafe then "libc may hang here in \($lock.unsafe | shown)"
             else empty end)],
       label: "deadlock: \($lock | lock_name) at \($stack[0] | where)",
       place: $stack, related: [{text: ($lock | had_by("since the fork")), place: $lock.at},
                                {text: (.fork | forked_by), place: .fork.stack[0]}],
       stack: $stack, key: key_of("deadlock \($what)"; $lock; [$stack, .fork.stack // []])};

def of_held($lock):
    .child as $child | (.stack | without_ours) as $stack
    | (if $lock.kind == "libc call" then "cut" else "forced" end) as $rule
    | {rule: $rule, level: "warning", time, pid: $child,
       title: ("process \($child) \"\(.program | shown)\" (forked by \(.pid)): "
            + (if $rule == "cut" then
                    "\($lock.thread | who) was inside \($lock.call // "a libc call" | shown): "
                    + "libc may hang here in \($lock.unsafe // "it" | shown)"
               else "\($lock | lock_name) was taken away from its holder: the data under it may be torn" end)),
       lines: [($lock | had_by("at the fork"), more_of_holder), forked_by],
       label: "\($rule): \($lock | lock_name) at \($lock.at | where)",
       place: [$lock.at], related: [{text: forked_by, place: $stack[0]}], stack: $stack,
       key: key_of($rule; $lock; [$stack])};

def of_stuck:
    (.stack | without_ours) as $stack
    | {rule: "stuck", level: "error", time, pid,
       title: ("\(process): \(.thread | who) has waited \(.ms // "?") ms for "
            + ({kind: (.kind // "a lock"), address, object} | lock_name)),
       lines: [(if .owner then "held by \(.owner | who)" else "nobody is known to hold it" end)
                + (if .at then "; waits at \(.at | where)" else "" end),
               "stack: \($stack | as_stack)"],
       label: "stuck: \({kind: (.kind // "a lock"), address, object} | lock_name) at \($stack[0] | where)",
       place: ($stack + [.at]), related: [], stack: $stack,
       key: key_of("stuck"; {kind, object, at}; [$stack])};

def of_timeout:
    (.threads | map(.stack // [] | select(length > 0))) as $stacks
    | {rule: "timeout", level: "error", time, pid,
       title: ("\(process) was still alive\(if .seconds then " after \(.seconds) s" else "" end): "
            + (.threads | length | counted("thread"))),
       lines: (.threads | map("\(who): " + (if .stack | length > 0 then .stack | as_stack
                                            else .note // "no stack" | shown end))),
       label: "timeout: \(.program | shown)",
       place: ($stacks[0] // []), related: [], stack: ($stacks[0] // []),
       key: "timeout \(.pid)"};

# Whether the world was stopped. In detect mode it is not, so that nothing is forced, and what is inherited is told
# where the child runs into it.
def was_stopped: (.stop.attempts // 0) > 0;

def findings:
    if .event == "deadlock" then of_deadlock
    elif .event == "fork" and was_stopped then
        (.inherited[] | select(.torn == true or .kind == "libc call")) as $lock | of_held($lock)
    elif .event == "stuck" then of_stuck
    elif .event == "timeout" then of_timeout
    else empty end;

def as_text: "forksafe: \(.rule): \(.title)", (.lines[] | "      " + .);

# The same mistakes as one, with how often it was made.
def grouped(stream):
    reduce stream as $one ({}; if has($one.key) then .[$one.key].count += 1 else .[$one.key] = ($one + {count: 1}) end)
    | [.[]] | sort_by(.time);

# Where to point a viewer: the innermost place with a source line, else the first known.
def best_place: map(select(. != null)) | unrolled | (map(select(.file)) + map(select(.function)) + .)[0];

# --- numbers -----------------------------------------------------------------------------------------------------

# Lists and not one object: jq 1.6 copies a large object at most kinds of update.
def total(numbers): reduce numbers as $n (0; . + $n);
def counts(stream):
    [stream
        | if .event == "fork" then
            {event, pids: [.pid, .child], inherited: (.inherited | length), us: (.stop.us // 0), stopped: was_stopped,
             forced: (if was_stopped then [.inherited[] | select(.torn == true or .kind == "libc call")] | length
                      else 0 end)}
          else {event, pids: [.pid]} end]
    | {processes: ([.[].pids[]] | unique | length)}
        + (map(select(.event == "fork")) | {forks: length, stops: (map(select(.stopped)) | length),
            worst_us: (map(select(.stopped).us) | max // 0), inherited: total(.[].inherited),
            forced: total(.[].forced)})
        + {configs: (map(select(.event == "config")) | length), deadlocks: (map(select(.event == "deadlock")) | length),
            stuck: (map(select(.event == "stuck")) | length)};

def short_summary:
    "\(.processes | counted("process"; "processes")), \(.forks | counted("fork")), \(.stops | counted("stop"))"
    + (if .stops > 0 then " (the worst took \(.worst_us) us)" else "" end);
def summary:
    "\(short_summary); locks inherited: \(.inherited), forced: \(.forced), would have deadlocked: \(.deadlocks)"
    + (if .stuck > 0 then ", stuck: \(.stuck)" else "" end);
