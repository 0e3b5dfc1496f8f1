# Events in, a line for each finding out, with the journal's priority in front ("<3>": an error, "<4>": a warning).
# jq --unbuffered -R -r -f journal.jq; lines that are no event of version 1 are passed over.
def base: sub(".*/"; "");
def place: if . == null then "?" elif .module then "\(.module | base)+\(.offset)" else .address end;
def thread: "\"\(.name)\" (tid \(.tid))";
def held:
    if .kind == "libc call" then "thread \(.thread | thread) was inside \(.call), called at \(.at | place)"
    else "\(.kind) \(.object | place) was held by \(.thread | thread), taken at \(.at | place)" end;

(fromjson? // empty) | objects | select(.v == 1)
| if .event == "fork" then
    . as $fork | .inherited[] | select(.torn or .kind == "libc call")
    | "<4>\($fork.program)[\($fork.pid)] forked \($fork.child): \(held)"
  elif .event == "deadlock" then
    "<3>\(.program)[\(.pid)]: \(.thread | thread) would deadlock at \(.stack[0] | place): \(.inherited | held)"
  elif .event == "stuck" then
    "<4>\(.program)[\(.pid)]: \(.thread | thread) waits for \(.ms) ms at \(.at | place) for \(.kind) \(.object | place)"
  else empty end
