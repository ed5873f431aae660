"""Points the tests of a Python client at the server under test, and writes down how each ended."""

import importlib
import os

FIXED_PORT = 2379
PORT = int(os.environ["METASTORE_CLIENTS_PORT"])
ENDS = os.environ["METASTORE_CLIENTS_ENDS"]

# What makes a client when a test names no port, by the module it is in.
CONNECTS = {
    "etcd3": lambda module: [module.client, module.Etcd3Client.__init__],
    "aetcd": lambda module: [module.Client.__init__],
}


def pytest_configure(config):
    """The tests rely on defaults of their client: there the port is replaced."""
    package = next(name for name in CONNECTS if os.path.isdir(name))
    for connect in CONNECTS[package](importlib.import_module(package)):
        assert FIXED_PORT in connect.__defaults__
        connect.__defaults__ = tuple(
            PORT if value == FIXED_PORT else value for value in connect.__defaults__
        )


outcomes = {}


def pytest_runtest_logreport(report):
    """A test passes when it and what surrounds it do; one that is skipped does not."""
    good = report.outcome == "passed"
    outcomes[report.nodeid] = outcomes.get(report.nodeid, True) and good


def pytest_sessionfinish(session):
    """The last line says how many there should be: a session that is cut short finishes, too."""
    with open(ENDS, "w", encoding="utf-8") as ends:
        for name, passed in outcomes.items():
            ends.write(f"{'passed' if passed else 'failed'} {name}\n")
        ends.write(f"ended {session.testscollected}\n")
