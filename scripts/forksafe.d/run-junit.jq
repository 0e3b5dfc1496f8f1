# Findings as JUnit XML, in the form that Ant's and Jenkins' schemas have in common. $about[0]: what was run.
include "common";

# No character that XML 1.0 has not.
def xml:
    shown | explode | map(if . == 65534 or . == 65535 or (. >= 55296 and . < 57344) then 63 else . end) | implode
    | @html;
def times: if .count > 1 then " (\(.count) times)" else "" end;
def lines_xml: map(xml) | join("\n");

$about[0] as $about
| . as $findings
| (if $about.status != 0 then 1 else 0 end) as $bad
| "<?xml version=\"1.0\" encoding=\"UTF-8\"?>",
  "<testsuites>",
  "  <testsuite name=\"forksafe\" package=\"forksafe\" id=\"0\" timestamp=\"\($about.began)\""
    + " hostname=\"\($about.host | xml)\" tests=\"\(length + 1)\" failures=\"\(length + $bad)\""
    + " errors=\"0\" time=\"\($about.seconds)\">",
  "    <properties>",
  "      <property name=\"forksafe.version\" value=\"\($about.version | xml)\"/>",
  ($about.counts | to_entries[] | "      <property name=\"forksafe.\(.key)\" value=\"\(.value)\"/>"),
  "    </properties>",
  "    <testcase name=\"\($about.command | xml)\" classname=\"forksafe.run\" time=\"\($about.seconds)\""
    + (if $bad == 0 then "/>" else ">" end),
  (if $bad == 1 then
        "      <failure type=\"exit-status\" message=\"exit status \($about.status)\"></failure>",
        "    </testcase>"
   else empty end),
  ($findings[]
   | "    <testcase name=\"\(.label | xml)\" classname=\"forksafe.\(.rule)\" time=\"0\">",
     "      <failure type=\"\(.rule)\" message=\"\(.title | xml)\(times)\">"
        + ([.title, .lines[]] | lines_xml) + "</failure>",
     "    </testcase>"),
  "    <system-out></system-out>",
  "    <system-err>\($about.counts | summary | xml)</system-err>",
  "  </testsuite>",
  "</testsuites>"
