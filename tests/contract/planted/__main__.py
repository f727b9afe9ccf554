"""Print how the conformance kit judges each planted component."""

# ruff: noqa: T201 - it prints a table

from __future__ import annotations

from collections import Counter
from typing import get_args

from tests.contract.planted import Verdict, all_planted

verdicts = get_args(Verdict)
counts: dict[str, Counter[str]] = {}
for planted in all_planted():
    verdict, _ = planted.judge()
    counts.setdefault(str(planted.kind), Counter())[verdict] += 1
    print(f"{planted.kind:<12}{verdict:<25}{planted.component.__name__:<34}{planted.description}")

print(f"\n{'':<12}" + "".join(f"{verdict:>25}" for verdict in verdicts))
for kind, count in [*counts.items(), ("all", sum(counts.values(), Counter()))]:
    print(f"{kind:<12}" + "".join(f"{count[verdict]:>25}" for verdict in verdicts))
