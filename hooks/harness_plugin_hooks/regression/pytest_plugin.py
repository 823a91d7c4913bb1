"""The regression gate inside pytest: options name two results, and every check is a test.

pytest imports this module at every start, wherever it is installed: what it needs is imported when
the options are given.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from harness_plugin.scoring.gate import Check, Comparison

NAME = "harness-compare"
COMPARISONS: pytest.StashKey[tuple[Comparison, ...]] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of `harness compare` that a test run needs."""
    group = parser.getgroup("harness", "regression gate of harness-plugin")
    group.addoption(
        "--harness-baseline",
        type=Path,
        metavar="RESULTS",
        help="results that the candidate is compared with; adds one test a check",
    )
    group.addoption(
        "--harness-candidate",
        type=Path,
        metavar="RESULTS",
        help="results folder of a run or of `harness score`, or one transfer_*.json in it",
    )
    group.addoption(
        "--harness-thresholds",
        type=Path,
        metavar="FILE",
        help="YAML file of gates (default: that of harness compare)",
    )
    group.addoption("--harness-role", default="student", metavar="ROLE", help="(student)")
    group.addoption("--harness-baseline-role", metavar="ROLE", help="of the baseline, if another")
    group.addoption(
        "--harness-undecided",
        choices=("skip", "fail"),
        default="fail",
        help="what a check is that has too few seeds or examples (fail, as in harness compare)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Compare before anything runs: bad input ends the test run here, whoever collects."""
    values = {name: config.getoption(f"harness_{name}") for name in ("baseline", "candidate")}
    lacking = [name for name, path in values.items() if path is None]
    if len(lacking) == 1:
        raise pytest.UsageError(f"--harness-{lacking[0]} is missing: two results are compared")
    if not lacking:
        config.stash[COMPARISONS] = compared(config)


@pytest.hookimpl(tryfirst=True)  # before -k and -m choose
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Add the checks behind the tests that were collected."""
    if COMPARISONS in config.stash:
        path = config.getoption("harness_candidate")
        items.extend(Gate.from_parent(session, name=NAME, nodeid=NAME, path=path).collect())


def compared(config: pytest.Config) -> tuple[Comparison, ...]:
    """The comparisons that the options ask for; UsageError for what cannot be compared."""
    from harness_plugin.cli.startup import installed_plugins
    from harness_plugin.errors import HarnessError
    from harness_plugin.scoring.files.finished_runs import Selected, compare_outputs
    from harness_plugin.scoring.gate import default_thresholds, read_thresholds
    from harness_plugin.scoring.metrics import Metric

    def option(name: str) -> Any:
        return config.getoption(f"harness_{name}")

    selected = Selected(
        option("baseline"), option("candidate"), option("role"), option("baseline_role")
    )
    try:
        plugins = installed_plugins()
        known = plugins["metric"].instances(Metric)
        file = option("thresholds")
        thresholds = read_thresholds(file) if file else default_thresholds(known=known)
        return compare_outputs(selected, thresholds, plugins)
    except HarnessError as error:
        raise pytest.UsageError(f"harness: {error}") from None


class Gate(pytest.Collector):
    """All checks of one comparison of results."""

    def collect(self) -> Iterator[CheckItem]:
        """One item a check, named TASK/SET/METRIC."""
        for comparison in self.config.stash[COMPARISONS]:
            for check in comparison.checks:
                name = f"{comparison.task}/{check.name}"
                yield CheckItem.from_parent(self, name=name, check=check)


class CheckItem(pytest.Item):
    """One check: it fails when the candidate has regressed."""

    def __init__(self, *, check: Check, **more: Any) -> None:
        super().__init__(**more)
        self.check = check

    def runtest(self) -> None:
        """Pass, skip or fail, with the numbers."""
        from harness_plugin_hooks.regression.reports import sentence

        state, message = self.check.state, sentence(self.check)
        if state == "undecided" and self.config.getoption("harness_undecided") == "skip":
            pytest.skip(f"undecided: {message}")
        if state != "pass":
            pytest.fail(f"{state}: {message}", pytrace=False)

    def reportinfo(self) -> tuple[Path, None, str]:
        """Where a report says that it is."""
        return self.path, None, self.name
