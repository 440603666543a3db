"""Puts small faults into the code, one by one, and runs the tests: a fault that no test notices is a hole in them.

    python benchmarks/mutation.py --count 40                         # drawn from all of refusion_jax/method
    python benchmarks/mutation.py --file refusion_jax/method/losses.py --tests tests/method/test_losses.py

Faults: an operator or comparison exchanged, a number or truth value changed, an argument left out, two arguments
exchanged, a `stop_gradient` taken away, a branch taken always. The tree is copied first; the checkout stays as it is.
Prints a line for each fault and a table of those that survived; the exit status is 1 if any did.
"""

import argparse
import ast
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXCHANGED = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mod,
    ast.Mod: ast.FloorDiv, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


def _replacements(node: ast.AST) -> Iterator[ast.AST]:
    """The faulty forms of one expression."""
    match node:
        case ast.BinOp() if type(node.op) in EXCHANGED:
            yield ast.BinOp(node.left, EXCHANGED[type(node.op)](), node.right)
        case ast.BoolOp() if type(node.op) in EXCHANGED:
            yield ast.BoolOp(EXCHANGED[type(node.op)](), node.values)
        case ast.Compare(ops=[op]) if type(op) in EXCHANGED:
            yield ast.Compare(node.left, [EXCHANGED[type(op)]()], node.comparators)
        case ast.Constant(value=bool()):
            yield ast.Constant(not node.value)
        case ast.Constant(value=int() | float()):
            yield ast.Constant(node.value + 1)
        case ast.IfExp():
            yield node.body
            yield node.orelse
        case ast.Call():
            if ast.unparse(node.func).endswith("stop_gradient"):
                yield node.args[0]
            for i in range(len(node.keywords)):
                yield ast.Call(node.func, node.args, node.keywords[:i] + node.keywords[i + 1 :])
            for i in range(len(node.args) - 1):
                if not any(isinstance(x, ast.Starred) for x in node.args[i : i + 2]):
                    yield ast.Call(
                        node.func, [*node.args[:i], node.args[i + 1], node.args[i], *node.args[i + 2 :]], node.keywords
                    )


def faults(path: Path) -> list[tuple[int, str, str, str]]:
    """(line, code as it is, code as it becomes, text of the whole faulty file) of every fault in a file."""
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    annotations = {
        id(x) for n in ast.walk(tree) for a in ("annotation", "returns") if getattr(n, a, None)
        for x in ast.walk(getattr(n, a))
    }  # fmt: skip
    starts = [0]
    for line in source.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    data, found = source.encode(), []
    for node in ast.walk(tree):
        if not isinstance(node, ast.expr) or id(node) in annotations:
            continue
        start = starts[node.lineno - 1] + node.col_offset
        stop = starts[node.end_lineno - 1] + node.end_col_offset
        for new in _replacements(node):
            text = f"({ast.unparse(ast.fix_missing_locations(new))})"
            if text == f"({ast.unparse(node)})":
                continue
            whole = (data[:start] + text.encode() + data[stop:]).decode()
            found.append((node.lineno, " ".join(ast.unparse(node).split()), text[1:-1], whole))
    return found


def nearest(name: Path) -> list[str]:
    """The test file of a module, where there is one: what is run first, since most faults show there."""
    path = Path("tests", *name.parts[1:-1], f"test_{name.name}")
    return [str(path)] if (ROOT / path).exists() else []


def noticed(copy: Path, tests: list[str], limit: float) -> bool:
    """Whether the tests fail, or do not come to an end."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *tests]
    try:
        return subprocess.run(command, cwd=copy, capture_output=True, timeout=limit).returncode != 0
    except subprocess.TimeoutExpired:
        return True


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns 1 if a fault was not noticed, 2 if the tests fail without any."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, action="append", help="default: every file of refusion_jax/method")
    parser.add_argument("--tests", nargs="+", default=["tests/method"], help="default: tests/method")
    parser.add_argument("--count", type=int, default=40, help="faults to try, drawn from all (default 40)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=900, help="seconds for one run of the tests (default 900)")
    options = parser.parse_args(arguments)
    files = options.file or sorted((ROOT / "refusion_jax" / "method").glob("[!_]*.py"))
    names = [Path(file).resolve().relative_to(ROOT) for file in files]
    drawn = [(name, *fault) for name in names for fault in faults(ROOT / name)]
    print(f"{len(drawn)} faults in {len(names)} files, {min(options.count, len(drawn))} of them tried", flush=True)
    random.Random(options.seed).shuffle(drawn)
    survived = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / ROOT.name
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv", "runs", "demo", "__pycache__"))
        if noticed(copy, options.tests, options.limit):
            print("the tests fail without any fault", file=sys.stderr)
            return 2
        for number, (name, line, before, after, text) in enumerate(drawn[: options.count], 1):
            started, sound = time.monotonic(), (copy / name).read_bytes()
            (copy / name).write_text(text, encoding="utf-8")
            caught = noticed(copy, nearest(name) + options.tests, options.limit)
            (copy / name).write_bytes(sound)
            row = f"{name}:{line}: {before}  ->  {after}"
            survived += [] if caught else [row]
            took = time.monotonic() - started
            print(f"{number:4d} {'noticed ' if caught else 'SURVIVED'} {took:5.0f} s  {row}", flush=True)
    print(f"{len(survived)} of {min(options.count, len(drawn))} faults were not noticed", *survived, sep="\n  ")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
