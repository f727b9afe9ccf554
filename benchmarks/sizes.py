"""Size of the product code: lines by kind, modules, functions, public names, import circles and phrases.

    python benchmarks/sizes.py [CHECKOUT]

Product code is ``esmgn_core``, ``plugins`` and ``cli`` without their tests: Python files and page templates.
Lines are counted by what is on them: code (comments behind code included), docstring, comment, blank.
"""

from __future__ import annotations

import ast
import io
import re
import statistics
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

PRODUCT = ("esmgn_core", "plugins", "cli")
PUBLIC_ROOMS = ("io", "store", "metrics", "testing")
TEMPLATES = {".html", ".css", ".js", ".j2", ".svg"}
PHRASES = re.compile(r"\b(told|tells|stands in|in words)\b|\bis no ", re.IGNORECASE)
PROSE = (*PRODUCT, "docs", "tests", "README.md", "CONTRIBUTING.md")
TARGET = re.compile(r"^(esmgn_\w+(?:\.\w+)+)(?::\w+)?$")
"""A module, or a name in one, that is imported by its written name."""


def main() -> None:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1]
    product = [path for path in _files(root, *PRODUCT) if not _is_test(path.relative_to(root))]
    sources = [path for path in product if path.suffix == ".py"]
    templates = [path for path in product if path.suffix in TEMPLATES]
    tests = [path for path in _files(root, "tests", "plugins") if _is_test(path.relative_to(root))]
    kinds: Counter[str] = Counter()
    for path in sources:
        kinds += lines_by_kind(path.read_text(encoding="utf-8"))
    in_templates = sum(_length(path) for path in templates)
    functions = [length for path in sources for length in function_lengths(path)]
    test_lines = sum(_length(path) for path in tests if path.suffix == ".py")

    total = kinds.total() + in_templates
    print(f"product lines        {total:7,}  in {len(sources)} modules, {len(templates)} templates")
    for kind in ("code", "docstring", "comment", "blank"):
        print(f"  {kind:18} {kinds[kind]:7,}")
    print(f"  {'templates':18} {in_templates:7,}")
    print(f"module lines         {_spread([_length(path) for path in sources])}")
    print(f"function lines       {_spread(functions)}  of {len(functions):,}")
    print(f"test lines           {test_lines:7,}  {test_lines / kinds.total():.2f} of the product's Python")
    print(f"public names         {sum(public_names(root).values()):7,}  " + _parts(public_names(root)))
    graph = import_graph(root, sources)
    rooms = {(room(a), room(b)) for a, found in graph.items() for b in found if room(a) != room(b)}
    print(f"circles of modules   {len(circles(graph)):7,}  " + _joined(circles(graph)))
    between = circles({a: {b for x, b in rooms if x == a} for a, _ in rooms})
    print(f"circles of rooms     {len(between):7,}  " + _joined(between) + f"({len(rooms)} arrows)")
    counted = Counter(
        {place: sum(len(PHRASES.findall(p.read_text(encoding="utf-8"))) for p in _files(root, place))
         for place in PROSE}
    )  # fmt: skip
    print(f"phrases to avoid     {counted.total():7,}  " + _parts(counted))


def _files(root: Path, *places: str) -> Iterator[Path]:
    for place in places:
        found = [root / place] if (root / place).is_file() else sorted((root / place).rglob("*"))
        yield from (path for path in found if path.suffix in {".py", ".md", *TEMPLATES})


def _is_test(path: Path) -> bool:
    return "tests" in path.parts


def _length(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def lines_by_kind(text: str) -> Counter[str]:
    """Number of lines of code, docstring, comment and blank lines."""
    kinds = dict.fromkeys(range(1, len(text.splitlines()) + 1), "blank")
    skipped = {tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in skipped and token.type != tokenize.COMMENT:
            kinds |= dict.fromkeys(range(token.start[0], token.end[0] + 1), "code")
        elif token.type == tokenize.COMMENT and kinds[token.start[0]] == "blank":
            kinds[token.start[0]] = "comment"
    for node in ast.walk(ast.parse(text)):  # a text alone in a statement documents what is before it
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            kinds |= dict.fromkeys(range(node.lineno, (node.end_lineno or node.lineno) + 1), "docstring")
    return Counter(kinds.values())


def function_lengths(path: Path) -> list[int]:
    """Lines of each function and method, with its docstring."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return [(node.end_lineno or node.lineno) - node.lineno + 1 for node in nodes if isinstance(node, kinds)]


def public_names(root: Path) -> Counter[str]:
    """Names without underscore of modules at the root of ``esmgn_core``; ``__all__`` of public rooms."""
    found: Counter[str] = Counter()
    core = root / "esmgn_core"
    for path in sorted(core.glob("*.py")):
        if path.stem != "__init__":
            found["modules"] += len(_defined(path))
    for name in PUBLIC_ROOMS:
        for node in ast.parse((core / name / "__init__.py").read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                found[name] += len(ast.literal_eval(node.value))
    return found


def _defined(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return {name for name in names if not name.startswith("_")}


def import_graph(root: Path, sources: list[Path]) -> dict[str, set[str]]:
    """Own modules that each module imports: at the top, late, for type checkers, and by written name."""
    names = {module_name(root, path): path for path in sources}
    graph: dict[str, set[str]] = {}
    for name, path in names.items():
        found: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                whole = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= whole & names.keys() or {node.module}
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= {match[1] for match in [TARGET.match(node.value)] if match}
        graph[name] = (found & names.keys()) - {name}
    return graph


def module_name(root: Path, path: Path) -> str:
    """Dotted name by which the file is imported."""
    parts = path.relative_to(root).with_suffix("").parts
    start = next(number for number, part in enumerate(parts) if part.startswith("esmgn_"))
    return ".".join(parts[start:-1] if parts[-1] == "__init__" else parts[start:])


def room(module: str) -> str:
    """Folder of a module of core, or the module at its root. A plugin and the program are one room each."""
    return ".".join(module.split(".")[: 2 if module.startswith("esmgn_core") else 1])


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of nodes that reach each other (Tarjan's strongly connected components of two or more)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in order:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == order[node]:
            group = [stack.pop()]
            while group[-1] != node:
                group.append(stack.pop())
            found.extend([sorted(group)] if len(group) > 1 else [])

    for node in sorted(graph):
        if node not in order:
            visit(node)
    return found


def _spread(values: list[int]) -> str:
    ordered = sorted(values)
    median, most = statistics.median(ordered), ordered[int(0.9 * len(ordered))]
    return f"{median:7,.0f}  90 %: {most}, largest: {ordered[-1]}"


def _parts(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items() if count)


def _joined(groups: list[list[str]]) -> str:
    return "".join(f"[{' '.join(group)}] " for group in groups)


if __name__ == "__main__":
    main()
