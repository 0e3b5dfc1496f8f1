"""trace.py TRACE EVENTS: whether a trace is what the Trace Event Format allows, and tells what the events tell."""

import json
import sys

trace = json.load(open(sys.argv[1]))
wanted = {"fork": 0, "deadlock": 0, "stuck": 0, "timeout": 0}
pids = set()
for line in open(sys.argv[2], errors="replace"):
    try:
        event = json.loads(line)
        if event["v"] != 1 or not isinstance(event["time"], (int, float)):
            continue
        pids.add(event["pid"])
        if event["event"] == "fork" and not isinstance(event.get("child"), int):
            continue
    except (ValueError, KeyError, TypeError):
        continue
    pids |= {event["child"]} if event["event"] == "fork" else set()
    if event["event"] in wanted:
        wanted[event["event"]] += 1

slices, starts, arrivals, named, instants, stops = {}, {}, {}, set(), 0, 0
for e in trace["traceEvents"]:
    assert isinstance(e["name"], str) and isinstance(e["pid"], int) and isinstance(e["tid"], int), e
    if e["ph"] == "M":
        assert e["name"] in ("process_name", "thread_name", "process_sort_index"), e
        if e["name"] == "process_name":
            assert isinstance(e["args"]["name"], str), e
            named.add(e["pid"])
        continue
    assert isinstance(e["ts"], (int, float)) and e["ts"] >= 0, e
    if e["ph"] == "X":
        assert e["dur"] >= 1, e
        slices.setdefault((e["pid"], e["tid"]), []).append((e["ts"], e["ts"] + e["dur"]))
        stops += e["cat"] == "stop"
    elif e["ph"] == "s":
        assert e["id"] not in starts, e
        starts[e["id"]] = e
    elif e["ph"] == "f":
        assert e["id"] not in arrivals and e["bp"] == "e", e
        arrivals[e["id"]] = e
    elif e["ph"] == "i":
        assert e["s"] in ("g", "p", "t"), e
        instants += 1
    else:
        raise AssertionError(e)

# Slices of a thread nest, and come in the order in which they begin, the outer one first.
for thread, those in slices.items():
    open_ends, last = [], -1
    for begin, end in those:
        assert begin >= last, (thread, begin, last)
        last = begin
        while open_ends and open_ends[-1] <= begin:
            open_ends.pop()
        assert not open_ends or end <= open_ends[-1], f"{thread}: {begin}..{end} reaches beyond {open_ends[-1]}"
        open_ends.append(end)


def inside(e):
    return any(begin <= e["ts"] < end for begin, end in slices[e["pid"], e["tid"]])


assert set(starts) == set(arrivals)
for number, start in starts.items():
    end = arrivals[number]
    assert inside(start) and inside(end), (start, end)
    assert (start["name"], start["cat"]) == (end["name"], end["cat"]) and start["ts"] <= end["ts"], (start, end)
assert stops == len(starts) == wanted["fork"], (stops, len(starts), wanted)
assert instants == wanted["deadlock"] + wanted["stuck"] + wanted["timeout"], (instants, wanted)
assert named == pids, named ^ pids
print(f"{len(pids)} processes, {stops} stops and arrows, {instants} instants")
