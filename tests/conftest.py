"""What all tests share: the policy on skips, and on measuring."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from tests.support import rtsp_server

# The suite starts about a hundred interpreters. Where byte code is not to be kept, each of them would compile the
# whole package anew, and every worker every test: half a minute in all.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# The last one: npm's registry is no part of a checkout either.
# Run in the background or under nohup these are ignored, and would be by every command that a test starts.
for _number, _default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, _default)

_ALLOWED = ("gpu:", "tensorrt:", "STREAMD_TEST_DATA", "npm cannot install")


def _forbidden_skips(reporter: pytest.TerminalReporter) -> list[str]:
    found = []
    for report in reporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reason = reason.removeprefix("Skipped: ")
        if not reason.startswith(_ALLOWED):
            found.append(f"{report.nodeid}: {reason}")
    return found


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A worker a core: with one more, daemons wait for the processor while tests look at their clocks."""
    return os.cpu_count() or 1


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is long is slow, too; before options choose by markers."""
    for item in items:
        if item.get_closest_marker("long") or item.get_closest_marker("soak"):
            item.add_marker(pytest.mark.slow)


def pytest_configure(config: pytest.Config) -> None:
    """Figures taken beside other tests are none: pytest-benchmark would drop them with a warning at the very end."""
    if config.getoption("benchmark_enable") and config.getoption("dist") != "no":
        raise pytest.UsageError("benchmarks measure nothing beside other tests; add -n 0")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """With STREAMD_STRICT_SKIPS a skip for anything but a GPU, TensorRT or the reference data fails the run."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not os.environ.get("STREAMD_STRICT_SKIPS"):
        return
    forbidden = _forbidden_skips(reporter)
    for line in forbidden:
        reporter.write_line(f"not an allowed skip: {line}", red=True)
    if forbidden and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def gstreamer() -> None:
    """Skips, naming the packages, where there is no GStreamer RTSP server."""
    lacking = rtsp_server.missing()
    if lacking:
        pytest.skip(lacking)
