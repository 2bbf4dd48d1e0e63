"""Runs the tests of one folder, each with its duration.

    suite.py [-k PATTERN] FOLDER
"""

import argparse
import sys
import time
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent


class Timed(unittest.TextTestResult):
    """Says after every test how long it took."""

    def startTest(self, test):
        self.started = time.monotonic()
        super().startTest(test)

    def stopTest(self, test):
        self.stream.writeln(f"    {time.monotonic() - self.started:.1f} s")
        super().stopTest(test)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("-k", action="append", default=None)
    arguments.add_argument("folder")
    arguments = arguments.parse_args()
    loader = unittest.TestLoader()
    if arguments.k:
        loader.testNamePatterns = [f"*{pattern}*" for pattern in arguments.k]
    tests = loader.discover(str(HERE / arguments.folder), top_level_dir=str(HERE))
    outcome = unittest.TextTestRunner(verbosity=2, resultclass=Timed).run(tests)
    # A pattern that matches nothing, or a folder that cannot be imported, is no success.
    sys.exit(not (outcome.wasSuccessful() and outcome.testsRun))


if __name__ == "__main__":
    main()
