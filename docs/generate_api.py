"""Write ``docs/api.md``: every public name of esmgn with its signature and the first line of its docstring.

    python docs/generate_api.py

The modules at the root of ``esmgn_core`` and the names in ``__all__`` of its public packages are public. A
test compares the page with the code, so that a change of the public API shows in a diff.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
CORE = ROOT / "esmgn_core"
PACKAGES = ("io", "store", "metrics", "testing")
PAGE = ROOT / "docs" / "api.md"
_HEAD = """\
# Public API

Plugins and scripts import these names. Everything else in `esmgn_core` is private and
may change in any release. This page is generated: `python docs/generate_api.py`.

A public name works for at least two minor releases after it is deprecated: deprecated in
0.2, removed in 0.4 at the earliest. Until then its use is an `EsmgnDeprecationWarning`.
"""


def page() -> str:
    """The text of the page."""
    parts = [_HEAD]
    modules = sorted(path for path in CORE.glob("*.py") if path.stem != "__init__")
    parts.append(_section(CORE / "__init__.py", "esmgn_core"))
    parts += [_section(path, f"esmgn_core.{path.stem}") for path in modules]
    parts += [_section(CORE / name / "__init__.py", f"esmgn_core.{name}") for name in PACKAGES]
    return "\n".join(parts)


def _section(path: Path, module: str) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lines = [_item(*found) for found in _exported(tree) or _defined(tree)]
    return f"## {module}\n\n{_first_line(tree)}\n\n" + "".join(f"- {line}\n" for line in lines)


def _exported(tree: ast.Module) -> list[tuple[str, ast.AST | None, str]]:
    """What ``__all__`` lists: name, definition and docstring; empty without ``__all__``."""
    listed: list[str] = []
    origin: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            origin |= {alias.asname or alias.name: str(node.module) for alias in node.names}
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            listed = ast.literal_eval(node.value)
    own = {name: found for name, *found in _defined(tree)}
    result: list[tuple[str, ast.AST | None, str]] = []
    for name in listed:
        node, text = own.get(name) or _imported(name, origin.get(name, ""))
        result.append((name, node, text))
    return result


def _imported(name: str, module: str) -> tuple[ast.AST | None, str]:
    path = ROOT.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return next(((node, text) for found, node, text in _defined(tree) if found == name), (None, ""))


def _defined(tree: ast.Module) -> Iterator[tuple[str, ast.AST | None, str]]:
    """Definitions without a leading underscore at the top of a module, in the order of the file."""
    for node, following in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node, _first_line(node)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name) and (target.id[0] != "_" or target.id == "__version__"):
                yield target.id, None, _text(following)


def _item(name: str, node: ast.AST | None, text: str) -> str:
    signature = f"({ast.unparse(node.args)})" if isinstance(node, ast.FunctionDef) else ""
    members = ""
    if isinstance(node, ast.ClassDef):
        found = [name for item in node.body for name in _member(item) if not name.startswith("_")]
        members = f" Members: {', '.join(f'`{item}`' for item in found)}." if found else ""
    return f"`{name}{signature}` {text}".rstrip() + members


def _member(node: ast.stmt) -> Iterator[str]:
    """Name of a method, property or field."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target.id


def _first_line(node: ast.Module | ast.ClassDef | ast.FunctionDef) -> str:
    return (ast.get_docstring(node) or "").partition("\n")[0]


def _text(node: ast.stmt | None) -> str:
    """First line of the documentation below an assignment."""
    if (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ):
        return node.value.value.partition("\n")[0]
    return ""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
