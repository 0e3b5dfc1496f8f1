# The text report of symbolised events, which come as lines on standard input; with -n -r.
include "common";

def add_to($key; $one): if has($key) then .[$key].count += 1 else .[$key] = ($one + {count: 1}) end;

# What forksafe put right without a trace, or (detect) what nobody has run into.
def mended($event): $event.inherited[]
    | select((($event | was_stopped) and (.torn == true or .kind == "libc call")) | not);

# Only small objects are inside the state: jq 1.6 copies them at each step, and large ones slowly.
def add_event($e):
    if $e.event == "fork" then
        ("forked at \($e.stack | without_ours | unrolled[:3] | map(where) | join(" < ")) by thread \"\(
            $e.thread.name // "?" | shown)\"") as $where
        | .forks |= add_to($where; {})
        | if $e.inherited == [] then . else
            reduce mended($e) as $lock (.;
                .mended |= add_to([$lock.role, $lock.kind, ($lock.object | raw), ($lock.at | raw)] | tojson; $lock))
          end
    elif $e.event == "config" then .modes[$e.options.FORKSAFE_MODE // "?" | tostring] = 1
    else . end
    | reduce ($e | findings) as $one (.; .findings |= add_to($one.key; $one));

# [root, event] for each event: the tree's first process. A child writes its fork's event before it does anything else.
def with_root:
    foreach (inputs | [., "\(.pid)", (if .event == "deadlock" then "\(.fork.pid // .pid)" else "\(.pid)" end)])
        as [$e, $pid, $parent] ({};
        (if has($pid) then . elif has($parent) then .[$pid] = .[$parent] else .[$pid] = $e.pid end)
        | if $e.event == "fork" then .["\($e.child)"] = .[$pid] else . end;
        [.[$pid], $e]);

def trees:
    [with_root] | group_by(.[0])
    | map(map(.[1]) as $events
        | reduce $events[] as $e ({forks: {}, mended: {}, findings: {}, modes: {}}; add_event($e))
        | . + {first: $events[0], counts: counts($events[])})
    | sort_by(.first.time);

def times: if . > 1 then " (\(.) times)" else "" end;
def most_first: [.[]] | sort_by(-.count);
def at_most($count; $what):
    .[:$count][], (if length > $count then "    ... and \(length - $count) more \($what)" else empty end);

def tree_text:
    "process tree of \(.first | "\(.pid) \"\(.program | shown)\""): \(.counts | short_summary)"
        + (if .modes != {} then ", mode \(.modes | keys | join(" and ") | shown)" else "" end),
    (.forks | to_entries | sort_by(-.value.count) | map("    \(.key)\(.value.count | times)")
        | at_most(20; "places of forks")),
    (.mended | most_first
        | map("    inherited: \(lock_name): \(had_by("at the fork"))\(.count | times)")
        | at_most(20; "locks that were inherited")),
    (.findings | [.[]] | sort_by(.time)[]
        | "forksafe: \(.rule): \(.title)\(.count | times)", (.lines[] | "      " + .));

trees[] | tree_text
