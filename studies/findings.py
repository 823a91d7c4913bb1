"""Fill the tables of docs/findings.md, or of another page, from the results of studies.

    python studies/findings.py results/kd_undermines results/remedies
    python studies/findings.py results/pretrained_nli_small --page docs/findings_real.md

Each folder is the `--output_path` of a `harness study` of a plan in studies/embedded or examples.
The page says which tables it wants, between markers; what stands outside of them is written by hand
and kept.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pandas as pd

from harness_plugin.errors import HarnessError
from harness_plugin.store.files import write_text
from harness_plugin.study.plan import read_study
from harness_plugin_hooks.study.report.findings import filled
from harness_plugin_hooks.study.report.report import size_and_sections

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "findings.md"


def plan_of(study: str) -> Path:
    """The plan of a study of this repository, by its name."""
    for folder in (HERE / "embedded", HERE.parent / "examples"):
        for plan in folder.rglob("*.yaml"):
            if f"study: {study}\n" in plan.read_text(encoding="utf-8"):
                return plan
    raise HarnessError(f"no plan in studies/embedded or examples is called {study}.")


def main() -> None:
    """Fill the page, or say what is missing."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="results of studies")
    options.add_argument("--page", type=Path, default=PAGE)
    values = options.parse_args()
    page = values.page.read_text(encoding="utf-8")
    for folder in values.folders:
        tables = {}
        for kind in ("numbers", "estimates"):
            files = list(folder.glob(f"{kind}_*.parquet"))
            if len(files) != 1:
                raise HarnessError(f"{folder}: one {kind}_*.parquet expected, found {len(files)}.")
            tables[kind] = pd.read_parquet(files[0])
        name = str(tables["numbers"].study.iloc[0])
        study = read_study(plan_of(name))
        sizes = folder / f"sizes_{name}.json"
        parameters = json.loads(sizes.read_text(encoding="utf-8")) if sizes.is_file() else {}
        expected = size_and_sections(study, tables["numbers"], tables["estimates"], parameters)
        page = filled(page, name, *expected)
    write_text(values.page, page)


if __name__ == "__main__":
    try:
        main()
    except HarnessError as error:
        raise SystemExit(f"findings: {error}") from None
