"""Runs the tests of one version in Eclipse Paho's interoperability suite and prints one JSON object each.

    paho_suite.py FOLDER PORT --version 3|5 [--only TEST]

FOLDER holds client_test.py (MQTT 3.1.1), client_test5.py (MQTT 5) and the clients that they use, in
mqtt/. The modules expect their topics and the address as global names, which they set only when they
are programs themselves. An object is {"test": name, "failure": null | last line of what went wrong}.
What the tests print goes to standard error.
"""

import argparse
import contextlib
import importlib
import json
import logging
import sys
import unittest

MODULES = {3: "client_test", 5: "client_test5"}
TOPICS = ("TopicA", "TopicA/B", "Topic/C", "TopicA/C", "/TopicA")
WILD_TOPICS = ("TopicA/+", "+/C", "#", "/#", "/+", "+/+", "TopicA/#")


class Result(unittest.TestResult):
    """Tells how each test ended as soon as it has."""

    def __init__(self, output):
        super().__init__()
        self.output = output
        self.failure = None

    def startTest(self, test):
        super().startTest(test)
        self.failure = None

    def addError(self, test, error):
        self.note(test, error)

    def addFailure(self, test, error):
        self.note(test, error)

    def note(self, test, error):
        kind, value, _ = error
        lines = str(value).strip().splitlines() or [""]
        self.failure = f"{kind.__name__}: {lines[-1]}"
        # What a class prepares for its tests is not the failure of one that began.
        if isinstance(test, unittest.suite._ErrorHolder):
            sys.exit(f"{test.description}: {self.failure}")

    def stopTest(self, test):
        super().stopTest(test)
        name = test.id().rpartition(".")[2]
        print(json.dumps({"test": name, "failure": self.failure}), file=self.output)
        self.output.flush()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("port", type=int)
    parser.add_argument("--version", type=int, choices=sorted(MODULES), required=True)
    parser.add_argument("--only", metavar="TEST")
    arguments = parser.parse_args()
    sys.path.insert(0, arguments.folder)
    output = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        module = importlib.import_module(MODULES[arguments.version])
        prefix = "client_test5/" if arguments.version == 5 else ""
        module.topic_prefix = prefix
        module.topics = [prefix + topic for topic in TOPICS]
        module.wildtopics = [prefix + topic for topic in WILD_TOPICS]
        module.nosubscribe_topics = ("test/nosubscribe",)
        module.host, module.port = "127.0.0.1", arguments.port
        logging.getLogger().setLevel(logging.ERROR)
        if arguments.only:
            unittest.defaultTestLoader.testMethodPrefix = arguments.only
        unittest.defaultTestLoader.loadTestsFromModule(module).run(Result(output))


main()
