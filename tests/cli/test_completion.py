"""Names in the shell, and the page of names."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("run --struct gearnet_", {"gearnet_edge", "gearnet_ieconv"}),
        ("embed --seq esm2_8", {"esm2_8m"}),
        (
            "run --pretext residue_type+di",
            {"residue_type+" + name for name in ("diffpret", "dihedral", "distance")},
        ),
        ("run --recipe msp", {"msp", "msp_structure"}),
        ("show seri", {"serial"}),
        ("list recip", {"recipe"}),
        ("list --plugin gearn", {"gearnet"}),
        ("weights fetch esm2_65", {"esm2_650m"}),
        ("study new smo", {"smoke"}),
    ],
)
def test_names_are_completed_without_torch(typed: str, expected: set[str], tmp_path: Path) -> None:
    words = f"esmgn {typed}"
    environment = {
        **os.environ,
        "XDG_CONFIG_HOME": str(tmp_path),
        "_ESMGN_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    script = (
        "import sys; sys.argv = ['esmgn']\n"
        "from esmgn_cli.__main__ import main\n"
        "try:\n    main()\nfinally:\n    print('torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert set(done.stdout.split()) == expected
    assert done.stderr.split()[-1] == "False"


def test_the_page_of_components_is_that_of_the_code(
    monkeypatch: pytest.MonkeyPatch, clean_environment: pytest.MonkeyPatch
) -> None:
    from esmgn_core.host.registry import discover

    clean_environment.setattr("esmgn_core.host.presets.user_registry", lambda: Path("nowhere"))
    monkeypatch.syspath_prepend(DOCS)
    generate = importlib.import_module("generate_components")
    recorded = (DOCS / "components.md").read_text(encoding="utf-8")
    assert generate.page(discover()) == recorded, "write the page again: python docs/generate_components.py"
