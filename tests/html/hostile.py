"""hostile.py OUT: events whose names are meant to break a page, and lines that are none."""

import json
import sys

NAMES = [
    "<script>window.harmed=1</script>",
    "</script><script>window.harmed=2</script>",
    "<!--<script>",
    "<img src=x onerror=window.harmed=3>",
    "\"'><svg onload=window.harmed=4>",
    "`${window.harmed=5}`\\",
    "]]>&lt;&amp;&#60;",
    "\U0001f512 emoji e\u0301",
    "\u202egnp.exe",
    "tab\tline\nnul\0bell\a\u2028\u2029",
    "__proto__",
    "constructor",
    "javascript:window.harmed=6",
    "https://example.invalid/x.js",
    "long" * 3000,
    "@EVENTS@",
    "",
]


def place(name):
    return {"module": "/lib/" + name, "build_id": "00", "offset": "0x10", "function": name, "file": "/src/" + name,
            "line": 1}


def thread(name):
    return {"tid": 7, "name": name}


events = []
for i, name in enumerate(NAMES):
    time = 1795231656 + i / 10
    hold = {"role": name, "kind": name, "address": "0x10", "object": {**place(name), "symbol": name},
            "thread": thread(name),
            "at": place(name), "stood": place(name), "torn": i % 2 == 0, "stack": [place(name)]}
    call = {"role": "inside", "kind": "libc call", "call": name, "unsafe": name, "thread": thread(name),
            "at": place(name)}
    fork = {"pid": 100, "time": time, "thread": thread(name), "stack": [place(name)]}
    common = {"v": 1, "program": name}
    events += [
        {**common, "event": "config", "time": time, "pid": 100, "options": {name: name, "FORKSAFE_MODE": name}},
        {**common, "event": "fork", "time": time + 0.01, "pid": 100, "child": 200 + i, "thread": thread(name),
         "stack": [place(name)], "stop": {"us": 5, "attempts": 1}, "inherited": [hold, call]},
        {**common, "event": "deadlock", "time": time + 0.02, "pid": 200 + i, "thread": thread(name),
         "stack": [place(name)],
         "what": name, "inherited": hold, "fork": fork, "healed": True},
        {**common, "event": "stuck", "time": time + 0.03, "pid": 200 + i, "thread": thread(name),
         "stack": [place(name)],
         "ms": 10, "kind": name, "address": "0x10", "object": place(name), "at": place(name), "owner": thread(name)},
        {**common, "event": "timeout", "time": time + 0.04, "pid": 200 + i,
         "threads": [{"tid": 7, "name": name, "stack": [place(name)]}]},
    ]
# Of the right version, but with fields of the wrong kind, or without them.
events += [
    {"v": 1, "event": "fork", "time": 1795231660, "pid": 100},
    {"v": 1, "event": "fork", "time": 1795231660, "pid": 100, "child": "x", "stop": 3, "thread": [], "stack": {"a": 1},
     "inherited": [3, None, "x", {}], "program": {"a": 1}},
    {"v": 1, "event": "fork", "time": 1795231660, "pid": 100, "child": 999, "stop": {"us": "x"}, "thread": "x",
     "stack": [None, 3], "inherited": {"kind": 3}, "program": None},
    {"v": 1, "event": "deadlock", "time": 1795231660, "pid": 999, "inherited": None, "fork": 3},
    {"v": 1, "event": "stuck", "time": 1795231660, "pid": 999, "ms": "x", "owner": "x", "object": 3},
    {"v": 1, "event": "timeout", "time": 1795231660, "pid": 999, "threads": [1, {"stack": 3}]},
    {"v": 1, "event": "constructor", "time": 1795231660, "pid": 999, "inherited": [{}]},
    {"v": 1, "event": "config", "time": 1795231660, "pid": 999, "options": None},
]
with open(sys.argv[1], "wb") as out:
    for event in events:
        out.write(json.dumps(event, ensure_ascii=False).encode() + b"\n")
    # Bytes that are no UTF-8 in a name.
    out.write(b'{"v":1,"event":"config","time":1795231661,"pid":100,"program":"bad \xff\xc3 bytes","options":{}}\n\n')
    # Six that are no event: another version, no version, no object, cut short, not JSON at all, no pid.
    out.write(b'{"v":2,"event":"fork","time":1,"pid":1}\n{"event":"fork","time":1,"pid":1}\n[1]\n')
    out.write(b'{"v":1,"event":"fork","ti\n\xff\xfe\n{"v":1,"event":"fork","time":1}\n')
