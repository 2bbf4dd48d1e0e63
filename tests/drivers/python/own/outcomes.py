"""Outcomes of tests as pytest reports them, and what differs between two runs."""

import fnmatch
import xml.etree.ElementTree as ET


def read(report):
    """`{test: (outcome, reason)}`; the outcome is `passed`, `failed` or `skipped`."""
    outcomes = {}
    for case in ET.parse(report).getroot().iter("testcase"):
        test = f"{case.get('classname')}::{case.get('name')}"
        outcomes[test] = ("passed", "")
        for kind, outcome in (("skipped", "skipped"), ("failure", "failed"), ("error", "failed")):
            said = case.find(kind)
            if said is not None:
                outcomes[test] = (outcome, first_line(said.get("message") or said.text or ""))
    return outcomes


def first_line(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0][:300] if lines else ""


class Known:
    """Differences that are known: lines with a pattern of tests, under a comment line with the reason."""

    def __init__(self, text):
        self.reasons = {}
        self.used = set()
        reason = ""
        for line in text.splitlines():
            if line.startswith("#"):
                reason = line.lstrip("# ").strip()
            elif line.strip():
                self.reasons[line.strip()] = reason

    def reason_of(self, test):
        """Why a test may differ, or `None`."""
        found = [pattern for pattern in self.reasons if pattern == test or fnmatch.fnmatchcase(test, pattern)]
        self.used.update(found)
        return self.reasons[found[0]] if found else None

    def unused(self):
        """Patterns that no difference needed."""
        return sorted(set(self.reasons) - self.used)


def differences(direct, proxied):
    """`[(test, reason)]` of the tests that pass directly and fail, or are missing, through the proxy."""
    lost = ("failed", "it did not run")
    return [
        (test, proxied.get(test, lost)[1])
        for test, (outcome, _) in direct.items()
        if outcome == "passed" and proxied.get(test, lost)[0] == "failed"
    ]
