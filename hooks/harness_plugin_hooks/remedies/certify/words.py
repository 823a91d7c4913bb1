"""A certificate in words: the answer in a sentence, and why each other remedy has none."""

from __future__ import annotations

from collections.abc import Iterator

from harness_plugin_hooks.remedies.certify.certificate import Certificate

DEAREST = 1.25
"""Cost against the student without a remedy above which the sentence says that it is dear."""


def sentence(made: Certificate) -> str:
    """The answer: what is certified of which remedy, or that nothing is."""
    what = (
        f"a retention of at least {made.level:.0%} and a worst group within {100 * made.margin:g} "
        "points"
    )
    if not made.certified:
        return f"NONE CERTIFIED: {what} of the teacher's is not shown (error {made.delta:g})."
    cost = next(each.cost for each in made.order if each.remedy == made.certified)
    than = "the student without a remedy"
    if not next((each.cost for each in made.order if each.remedy == "none"), 0.0):
        than = "the dearest student"  # the unit of costs where the plain one is not trained
    dear = f" It costs more than {DEAREST:g} times {than}." if cost > DEAREST else ""
    return (
        f"CERTIFIED: {made.certified} ({cost:.2f}x the operations of {than}) has {what} of the "
        f"teacher's (error {made.delta:g}, {len(made.seeds)} seeds, {made.rows:,} rows that chose "
        f"nothing).{dear}"
    )


def reasons(made: Certificate) -> Iterator[tuple[str, str]]:
    """Every remedy that is not certified, in the order of the tests, and why not."""
    tested = {step.remedy: step.reason for step in made.steps}
    for each in made.order:
        if each.remedy != made.certified:
            yield (
                each.remedy,
                tested.get(each.remedy, f"not tested, {made.certified} was certified before it"),
            )
