"""Write tickets.csv: invented support tickets, urgent mostly where the plan is dear."""

from __future__ import annotations

import csv
import random
from pathlib import Path

PHRASES = {
    "urgent": (
        "cannot log in since the update",
        "lost all files of the project",
        "the page shows an error for everyone",
        "payments fail at the last step",
        "the export deletes our rows",
        "nobody in the team gets mail",
    ),
    "routine": (
        "want a copy of the last invoice",
        "how do I change the colour",
        "like the new icons",
        "please add a second address",
        "where is the list of short cuts",
        "would like a dark theme",
    ),
}
VAGUE = (
    "question about the login",
    "one more word on the files",
    "about the page from before",
    "regarding the payment",
    "note on the export",
    "on the mail of the team",
)
"""What three tickets in ten say, urgent or not: there the plan is the only cue."""
GREETINGS = ("Hello,", "Good morning,", "Hi there,", "Dear support,")
PLANS = {"free": "this is a free account:", "enterprise": "our company plan:"}
SPLITS = {"train": (480, 0.92), "test": (160, 0.92), "balanced": (240, 0.5)}
"""Rows, and the share of them whose plan goes with their urgency."""


def main() -> None:
    """Write the file beside this one."""
    rng = random.Random(0)
    with Path(__file__).with_name("tickets.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("message", "urgency", "plan", "split"))
        for split, (rows, rate) in SPLITS.items():
            for row in range(rows):
                urgent = row % 2 == 1
                agrees = row // 2 < round(rate * rows / 2)
                label = "urgent" if urgent else "routine"
                plan = "enterprise" if urgent == agrees else "free"
                phrase = rng.choice(VAGUE if rng.random() < 0.3 else PHRASES[label])
                words = (rng.choice(GREETINGS), PLANS[plan], phrase, f"({rng.randrange(10**5)})")
                writer.writerow((" ".join(words), label, plan, split))


if __name__ == "__main__":
    main()
