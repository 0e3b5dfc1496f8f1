# trace.jq: symbolised events, one JSON object a line (read with -nRr), as a trace in the Trace Event Format, in the
# subset that chrome://tracing and ui.perfetto.dev agree on:
# https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
#
#   M   names of processes and threads
#   X   a process's life, from its fork (or first event) to its last event, on its main thread; within lives, each stop
#   s f the arrow of a fork: from the stop in the parent to the child's life
#   i   deadlocks, stuck threads, timeouts
#
# Times are microseconds since the first thing seen; `otherData.start` says when that was. Slices of one thread have to
# nest (Perfetto drops others), so a stop that seems to begin before its thread's last one ended is cut short: the time
# of a fork is taken in the child, which may run late.

# Nothing is taken for granted: a field of the wrong kind must not cost the others.
def base: tostring | split("/") | last // "";
def place:
    if type != "object" then "?"
    elif .function then "\(.function)" + (if .file then " (\(.file | base):\(.line // "?"))" else "" end)
    elif .module then "\(.module | base)+\(.offset)"
    else .address // "?" | tostring end;
def stack: [arrays | .[] | place];
def thread: if type == "object" then "\(.name // "?") (tid \(.tid // "?"))" else "unknown" end;
def lock:
    if .kind == "libc call" then "\(.call // "?")"
    elif (.object | type) == "object" and .object.symbol then .object.symbol | tostring
    elif (.object | type) == "object" and .object.module then .object | place
    else .address // "?" | tostring end;
def hold:
    "\(.kind // "?") \(lock): \(.role // "?") \(.thread | thread), at \(.at | place)"
    + (if .torn == true then ", forced: its data may be torn" else "" end);

def event:
    try (fromjson | if type == "object" and .v == 1 and (.event | type) == "string" and (.time | type) == "number"
        and (.pid | type) == "number" then . else null end) catch null | values;

# Only what the trace needs, since all events are held at once.
def shorten:
    {event, time: (.time * 1e6 | round), pid, program: (.program // "?" | tostring),
        tid: ((.thread.tid? | numbers) // .pid), name: (.thread.name? // "?" | tostring)}
    + if .event == "fork" and (.child | type) == "number" then
        {child, us: ((.stop.us? | numbers) // 0),
         args: {child, stop, inherited: [.inherited | arrays | .[] | objects | hold],
                stack: (.stack | stack)}}
      elif .event == "deadlock" then
        (.inherited | if type == "object" then . else {} end) as $hold
        | {title: "deadlock: \(.what // "?") \($hold | lock)",
           args: {what, inherited: ($hold | hold), holder_stack: ($hold.stack | stack), healed, stack: (.stack | stack),
                  fork: (.fork | if type == "object" then {pid, thread: (.thread | thread), stack: (.stack | stack)}
                         else null end)}}
      elif .event == "stuck" then
        {title: "stuck: \(lock)",
         args: {ms, kind, at: (.at | place), owner: (.owner | thread), stack: (.stack | stack)}}
      elif .event == "timeout" then
        {title: "timeout",
         args: {threads: [.threads | arrays | .[] | objects | {thread: thread, stack: (.stack | stack)}]}}
      elif .event == "config" then {args: .options}
      else empty end;

# Each fork gets .from and .to, such that the stops of a thread nest. Its input is sorted by time.
def place_stops:
    foreach .[] as $e ({ends: {}};
        if $e.child then
            "\($e.pid) \($e.tid)" as $thread
            | .ends[$thread] as $earliest
            | .event = ($e | .from = ([.time - ([.us, 1] | max), $earliest // 0] | max)
                | .to = ([.from + 1, .time] | max))
            | .ends[$thread] = .event.to
            | .ends["\($e.child) \($e.child)"] = .event.to
        else .event = ($e | .from = .time | .to = .time) end;
        .event);

# A pid may be used again, so a process is a life: from a fork that made it, or from its first event.
def lives:
    def open($life): .now["\($life.pid)"] = (.all | length) | .all += [$life];
    reduce .[] as $e ({now: {}, all: []};
        (if .now["\($e.pid)"] == null then open($e | {pid, from, to}) else . end)
        | .now["\($e.pid)"] as $i
        | .all[$i] as $life
        | .all[$i] = ($life | .name = $e.program | .to = ([.to, $e.to] | max)
            | if .parent then . else .from = ([.from, $e.from] | min) end)
        | if $e.child then open({pid: $e.child, from: $e.to, to: $e.to, name: $e.program, parent: $e.pid}) else . end)
    | .all;

[[inputs | event | shorten] | sort_by(.time) | place_stops] as $events
| ($events | lives) as $lives
| ([$lives[].from, $events[].from] | min // 0) as $zero
| [
    ($lives | group_by(.pid) | .[] | last
        | {ph: "M", name: "process_name", pid, tid: .pid, args: {name}},
          {ph: "M", name: "process_sort_index", pid, tid: .pid, args: {sort_index: .pid}}),
    ($events | map(select(.event != "config") | {pid, tid, name}) | unique_by(.pid, .tid) | .[]
        | {ph: "M", name: "thread_name", pid, tid, args: {name}}),
    ($lives[]
        | {ph: "X", cat: "process", name: (if .parent then "forked by \(.parent)" else "process" end), pid, tid: .pid,
           ts: (.from - $zero), dur: ([.to - .from, 1] | max), args: {program: .name}}),
    ($events | to_entries[] | select(.value.child) | .key as $id | .value
        | {ph: "X", cat: "stop", name: "fork \(.child)", pid, tid, ts: (.from - $zero), dur: (.to - .from), args},
          # Half a microsecond before the stop's end, as only what lies inside a slice is bound to it.
          {ph: "s", cat: "fork", name: "fork", id: $id, pid, tid, ts: (.to - $zero - 0.5)},
          {ph: "f", bp: "e", cat: "fork", name: "fork", id: $id, pid: .child, tid: .child, ts: (.to - $zero)}),
    ($events[] | select(.title)
        | {ph: "i", s: "p", cat: .event, name: .title, pid, tid, ts: (.from - $zero), args})
  ] as $trace
| "{\"displayTimeUnit\":\"ms\",\"otherData\":{\"producer\":\"forksafe\",\"start\":\($zero / 1e6)},\"traceEvents\":[",
  # One event a line, for people and for grep; a comma stands before every one but the first. (Sorting is stable: a
  # life stays before the stops in it.)
  ($trace | sort_by(.ts // -1) | to_entries[] | (if .key == 0 then "" else "," end) + (.value | tojson)),
  "]}"
