"""formats.py junit|sarif FILE [SCHEMA]: whether FILE is well-formed; prints its findings, one a line.

Without SCHEMA (Ant's JUnit.xsd, or the SARIF 2.1.0 schema) the rules that viewers rely on are checked: these are
the required elements and attributes, their order and types, as both Ant's and Jenkins' schemas of JUnit XML and
SARIF's have them.
"""
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as xml


def junit(path):
    root = xml.parse(path).getroot()
    assert root.tag == "testsuites" and not root.attrib, root.attrib
    for number, suite in enumerate(root):
        assert suite.tag == "testsuite", suite.tag
        wanted = {"name", "package", "id", "timestamp", "hostname", "tests", "failures", "errors", "time"}
        assert set(suite.attrib) == wanted, suite.attrib
        assert suite.get("id") == str(number) and suite.get("name") and suite.get("hostname")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.get("timestamp")), suite.get("timestamp")
        assert re.fullmatch(r"\d{0,3}(\.\d*)?|\d+\.\d+", suite.get("time")), suite.get("time")
        tags = [part.tag for part in suite]
        cases = [part for part in suite if part.tag == "testcase"]
        assert tags == ["properties"] + ["testcase"] * len(cases) + ["system-out", "system-err"], tags
        for one in suite[0]:
            assert one.tag == "property" and set(one.attrib) == {"name", "value"} and one.get("name"), one.attrib
        failures = 0
        for case in cases:
            assert set(case.attrib) == {"name", "classname", "time"} and float(case.get("time")) >= 0, case.attrib
            assert len(case) <= 1, case
            for failure in case:
                assert failure.tag == "failure" and failure.get("type"), failure.attrib
                assert set(failure.attrib) <= {"type", "message"} and len(failure) == 0, failure.attrib
                failures += 1
                print(f"{failure.get('type')}: {case.get('name')}")
        assert int(suite.get("tests")) == len(cases) and int(suite.get("failures")) == failures
        assert suite.get("errors") == "0"


def uri(artifact, bases):
    assert re.fullmatch(r"[A-Za-z0-9._~:/?#@!$&'()*+,;=%-]+", artifact["uri"]), artifact
    assert artifact.get("uriBaseId") is None or artifact["uriBaseId"] in bases, artifact


def location(one, bases):
    assert set(one) <= {"physicalLocation", "logicalLocations", "message"}, one
    if "physicalLocation" in one:
        uri(one["physicalLocation"]["artifactLocation"], bases)
        if "region" in one["physicalLocation"]:
            assert one["physicalLocation"]["region"]["startLine"] >= 1, one
    if "message" in one:
        assert one["message"]["text"], one


def sarif(path):
    with open(path, encoding="utf-8") as file:
        log = json.load(file)
    assert log["version"] == "2.1.0" and "sarif" in log["$schema"] and len(log["runs"]) == 1, log
    run = log["runs"][0]
    rules = run["tool"]["driver"]["rules"]
    assert run["tool"]["driver"]["name"] == "forksafe"
    bases = run["originalUriBaseIds"]
    assert all(base["uri"].endswith("/") for base in bases.values()), bases
    assert len({rule["id"] for rule in rules}) == len(rules)
    assert isinstance(run["invocations"][0]["executionSuccessful"], bool)
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"], result
        assert result["level"] in {"error", "warning", "note", "none"} and result["message"]["text"], result
        assert result["occurrenceCount"] >= 1
        for one in result.get("locations", []) + result.get("relatedLocations", []):
            location(one, bases)
        for stack in result.get("stacks", []):
            for frame in stack["frames"]:
                location(frame["location"], bases)
        where = result["locations"][0]["physicalLocation"] if "locations" in result else {}
        line = where.get("region", {}).get("startLine", "-")
        print(f"{result['ruleId']}: {where.get('artifactLocation', {}).get('uri', '-')}:{line}")


def main():
    kind, path = sys.argv[1:3]
    {"junit": junit, "sarif": sarif}[kind](path)
    if len(sys.argv) > 3 and kind == "junit":
        subprocess.run(["xmllint", "--noout", "--schema", sys.argv[3], path], check=True, stderr=subprocess.DEVNULL)
    elif len(sys.argv) > 3:
        import jsonschema
        with open(path, encoding="utf-8") as file, open(sys.argv[3], encoding="utf-8") as schema:
            jsonschema.validate(json.load(file), json.load(schema))


main()
