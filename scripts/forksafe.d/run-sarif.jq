# Findings as SARIF 2.1.0. $about[0]: what was run.
include "common";

$about[0] as $about
| def escaped: @uri | gsub("%2F"; "/");
  def file_uri: shown as $path
    | if $path | startswith($about.directory + "/") then
        {uri: ($path | ltrimstr($about.directory + "/") | escaped), uriBaseId: "SRCROOT"}
      elif $path | startswith("/") then {uri: ("file://" + ($path | escaped))}
      else {uri: ($path | ltrimstr("./") | escaped)} end;
  # A place: file and line where known, else the module.
  def location($text):
    (if .file then {physicalLocation: ({artifactLocation: (.file | file_uri)}
                        + (if .line then {region: {startLine: .line}} else {} end))}
     elif .module then {physicalLocation: {artifactLocation: (.module | file_uri)}}
     else {} end)
    + (if .function then {logicalLocations: [{fullyQualifiedName: (.function | shown), kind: "function"}]} else {} end)
    + (if $text then {message: {text: $text}} else {} end);
  def frame: {location: location(where)} + (if .module then {module: (.module | base | shown)} else {} end);

  [{id: "deadlock", name: "InheritedLock", level: "error",
    text: "A forked child runs into a lock that a thread held at the fork. That thread is not in the child."},
   {id: "forced", name: "LockTakenFromHolder", level: "warning",
    text: "A lock was still held at the fork's deadline. The child got it free: the data under it may be torn."},
   {id: "cut", name: "LibcCallCut", level: "warning",
    text: "A thread was inside a libc call at the fork. The child may hang in that call and its kin."},
   {id: "stuck", name: "LongWait", level: "error", text: "A thread of a forked child waits for long."},
   {id: "timeout", name: "TimeLimit", level: "error", text: "A process was still alive at the end of the time limit."}]
    as $rules
| {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", version: "2.1.0",
   runs: [{
     tool: {driver: {name: "forksafe", version: $about.version, rules: ($rules | map({id, name,
        shortDescription: {text: .text}, defaultConfiguration: {level: .level}}))}},
     invocations: [{commandLine: ($about.command | shown), exitCode: $about.status, executionSuccessful: true}],
     originalUriBaseIds: {SRCROOT: {uri: ("file://" + ($about.directory | shown | escaped) + "/" | gsub("//$"; "/"))}},
     columnKind: "unicodeCodePoints",
     results: map(
        .rule as $rule
        | (.place + [.related[].place] | best_place) as $at
        | {ruleId: .rule, ruleIndex: ($rules | map(.id) | index($rule)), level,
           message: {text: ([.title, .lines[]] | join("\n"))}, occurrenceCount: .count,
           partialFingerprints: {"forksafe/v1": .label}}
          + (if $at then {locations: [$at | location(null)]} else {} end)
          + ([.related[] | select(.place) | .text as $text | .place | location($text)]
                | if length > 0 then {relatedLocations: .} else {} end)
          + (if .stack | length > 0 then {stacks: [{frames: (.stack | unrolled | map(frame))}]} else {} end))}]}
