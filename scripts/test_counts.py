"""Counts the results that scripts/run_tests leaves and prints "N passed, N failed, N skipped" as its last line.

Every ctest entry counts once, but an entry that ran pytest counts as the cases of its file, so that a case skipped inside it
shows. A folder without results counts as a failed test, since its build or its start failed. A gate that is not a test comes as
NAME=passed or NAME=failed and counts once. Names every failed and every skipped test with the reason. Exit status 1 where a test
failed or none ran.

Usage: test_counts.py [GATE=passed|failed]... RESULTS_FOLDER...
"""

import pathlib
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter

# What ctest writes for a test that skipped itself; a test that could not be started is "notrun" too, but has failed.
SKIPPED_ITSELF = re.compile(r"SKIP_")


def ctest_outcome(case):
    skipped = case.find("skipped")
    if case.get("status") == "run":
        return "passed", ""
    if case.get("status") == "disabled":
        return "skipped", "disabled"
    if skipped is not None and SKIPPED_ITSELF.search(skipped.get("message", "")):
        return "skipped", skip_reason(case.findtext("system-out") or "")
    failure = case.find("failure") if skipped is None else skipped
    return "failed", failure.get("message", "") if failure is not None else ""


def skip_reason(output):
    """The line in which the test says why it was skipped."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for index, line in enumerate(lines):
        if line.startswith("test skipped: "):
            return line.removeprefix("test skipped: ")
        if line.endswith(": Skipped") and index + 1 < len(lines):  # GoogleTest: "FILE:LINE: Skipped", then the message
            return lines[index + 1]
    return "no reason given"


def pytest_outcome(case):
    for tag, outcome in (("failure", "failed"), ("error", "failed"), ("skipped", "skipped")):
        found = case.find(tag)
        if found is not None:
            return outcome, found.get("message", "")
    return "passed", ""


def outcomes(folder):
    """Yields (test, outcome, reason)."""
    results = folder / "ctest.xml"
    if not results.exists():
        yield str(folder), "failed", "ended before any test ran"
        return
    for entry in ElementTree.parse(results).getroot().iter("testcase"):
        name = entry.get("name")
        outcome, reason = ctest_outcome(entry)
        cases_file = folder / f"{name}.xml"
        cases = list(ElementTree.parse(cases_file).getroot().iter("testcase")) if cases_file.exists() else []
        inner = [(f"{name}: {case.get('name')}", *pytest_outcome(case)) for case in cases]
        # pytest may fail without a failed case (a crash, a time limit): then its entry counts as well.
        if not inner or (outcome == "failed" and all(result != "failed" for _, result, _ in inner)):
            yield name, outcome, reason
        yield from inner


def outcomes_of(argument):
    gate, found, result = argument.rpartition("=")
    if found and result in ("passed", "failed"):
        return [(gate, result, "")]
    return outcomes(pathlib.Path(argument))


def main(arguments):
    counts = Counter()
    for argument in arguments:
        for test, outcome, reason in outcomes_of(argument):
            counts[outcome] += 1
            if outcome != "passed":
                print(f"{outcome}: {test}" + (f" ({reason.splitlines()[0]})" if reason else ""))
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return 1 if counts["failed"] or not counts["passed"] else 0


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1:]))
