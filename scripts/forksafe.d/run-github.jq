# Findings as annotations of GitHub Actions, one a line. $root is the checkout: paths are given from there.
include "common";

def data: gsub("%"; "%25") | gsub("\r"; "%0D") | gsub("\n"; "%0A");
def property: data | gsub(":"; "%3A") | gsub(","; "%2C");

.[]
| (.place + [.related[].place] | best_place) as $at
| ([(if $at.file then "file=\($at.file | shown | ltrimstr($root + "/") | property)" else empty end),
    (if $at.line then "line=\($at.line)" else empty end),
    "title=\("forksafe: \(.rule)" | property)"] | join(",")) as $properties
| "::\(.level) \($properties)::\([.title + (if .count > 1 then " (\(.count) times)" else "" end), .lines[]]
    | join("\n") | data)"
