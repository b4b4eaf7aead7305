"""The house as it is drawn: imports run down, names are used once, functions are small, words the field's.

The order of the rooms is that of `docs/architecture.md`, the words are those of `docs/words.md`.
"""

from __future__ import annotations

import ast
import re
import symtable
from collections import Counter
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "mixcoder"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
FILES = sorted(PACKAGE.rglob("*.py"))
SOURCES = [*FILES, *sorted(PACKAGE.rglob("*.cpp")), *sorted(PACKAGE.rglob("*.js"))]

MOST_LINES = 40
MOST_PARAMETERS = 6
ENTRY_POINTS = {"__init__"}
"""Functions whose parameters are what a user states: of models, layers, data sources."""

WORDS = ROOT / "docs" / "words.md"


def retired_words() -> list[str]:
    """The words in code marks in the last column of the glossary."""
    rows = [line.split("|") for line in WORDS.read_text("utf-8").splitlines() if line.startswith("| ")]
    return [word for row in rows for word in re.findall(r"`([^`]+)`", row[3])]


@cache
def tree(path: Path) -> ast.Module:
    """The parsed file."""
    return ast.parse(path.read_text("utf-8"))


def module_name(path: Path) -> str:
    """The dotted name below the package; that of a room for its `__init__`."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


def imported(path: Path) -> set[str]:
    """The modules of the package that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        found |= {name.removeprefix("mixcoder.") for name in names if name.startswith("mixcoder.")}
    return found & set(MODULES)


@cache
def rooms() -> list[str]:
    """The rooms from top to bottom, as the document draws them."""
    block = re.search(r"```rooms\n(.*?)```", ARCHITECTURE.read_text("utf-8"), re.S)
    assert block, "docs/architecture.md draws no rooms"
    return [line.split()[0].replace("/", ".") for line in block[1].splitlines()]


def room_of(module: str) -> str | None:
    """The innermost room in which a module stands."""
    inside = [room for room in rooms() if module == room or module.startswith(f"{room}.")]
    return max(inside, key=len, default=None)


def list_modules(room: str) -> list[str]:
    """The modules of a room, and its folders, whose modules are not listed."""
    inside = [name for name in MODULES if room_of(name) == room and name != room]
    names = {name.removeprefix(f"{room}.").partition(".")[0] for name in inside}
    return sorted(f"{name}/" if MODULES[f"{room}.{name}"].stem == "__init__" else name for name in names)


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function of a file."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of a function but for its docstring."""
    first, lines = function.body[0], (function.end_lineno or 0) - function.lineno + 1
    is_docstring = ast.get_docstring(function) is not None
    return lines - ((first.end_lineno or 0) - first.lineno + 1 if is_docstring else 0)


def test_every_module_stands_in_a_room_that_is_drawn() -> None:
    homeless = [
        name for name in MODULES if name not in ("", "__main__", "experiments") and room_of(name) is None
    ]
    assert not homeless
    assert [room for room in rooms() if not any(room_of(name) == room for name in MODULES)] == []


def test_the_modules_of_each_room_are_listed() -> None:
    block = re.search(r"```modules\n(.*?)```", ARCHITECTURE.read_text("utf-8"), re.S)
    assert block, "docs/architecture.md lists no modules"
    listed = dict(line.split(maxsplit=1) for line in block[1].splitlines())
    assert list(listed) == [room.replace(".", "/") for room in rooms() if list_modules(room)]
    for room, modules in listed.items():
        assert modules.split(" · ") == list_modules(room.replace("/", "."))


def test_imports_run_down() -> None:
    rank = {room: i for i, room in enumerate(rooms())}
    upward = []
    for name, path in MODULES.items():
        room = room_of(name)
        for other in imported(path) if room else ():
            above = room_of(other)
            if above and rank[above] < rank[room or ""]:
                upward.append(f"{name} imports {other}")
    assert not upward


def test_no_imports_in_a_circle() -> None:
    graph = {name: imported(path) - {""} for name, path in MODULES.items()}
    for name in graph:  # a room's `__init__` lists what its modules offer; they do not need it
        graph[name] = {other for other in graph[name] if not name.startswith(f"{other}.")}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_a_name_of_a_module_is_used_once() -> None:
    names = Counter(path.stem for path in FILES if path.stem != "__init__")
    assert [name for name, count in names.items() if count > 1] == []


def test_functions_are_short() -> None:
    long = []
    for path in FILES:
        for function in functions(path):
            lines = code_lines(function)
            if lines >= MOST_LINES:
                long.append(f"{module_name(path)}.{function.name}: {lines}")
    assert not long


def test_functions_take_few_parameters() -> None:
    many = []
    for path in FILES:
        for function in functions(path):
            given = function.args
            names = [arg.arg for arg in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
            count = len([name for name in names if name not in ("self", "cls")])
            is_command = module_name(path).startswith("cli.") and not function.name.startswith("_")
            if count > MOST_PARAMETERS and not is_command and function.name not in ENTRY_POINTS:
                many.append(f"{module_name(path)}.{function.name}: {count}")
    assert not many


def lambdas_that_capture(table: symtable.SymbolTable) -> Iterator[int]:
    """The lines of lambdas that use variables of the function around them."""
    for child in table.get_children():
        if isinstance(child, symtable.Function) and child.get_name() == "lambda" and child.get_frees():
            yield child.get_lineno()
        yield from lambdas_that_capture(child)


def test_no_lambda_captures_a_closure() -> None:
    found = [
        f"{module_name(path)}:{line}"
        for path in FILES
        for line in lambdas_that_capture(symtable.symtable(path.read_text("utf-8"), str(path), "exec"))
    ]
    assert not found


def test_no_chain_of_partials_and_no_walrus_in_a_comprehension() -> None:
    found = []
    for path in FILES:
        for node in ast.walk(tree(path)):
            inner = [child for child in ast.walk(node) if child is not node]
            if isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
                found += [f"{path}:{node.lineno}" for child in inner if isinstance(child, ast.NamedExpr)]
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "partial":
                calls = [child for child in inner if isinstance(child, ast.Call)]
                found += [f"{path}:{node.lineno}" for call in calls if ast.unparse(call.func) == "partial"]
    assert not found


def test_variables_have_names() -> None:
    found = [
        f"{module_name(path)}:{node.lineno}"
        for path in FILES
        for node in ast.walk(tree(path))
        if (isinstance(node, ast.Name) and node.id == "it")
        or (isinstance(node, ast.arg) and node.arg == "it")
    ]
    assert not found


def test_the_glossary_retires_words() -> None:
    assert len(retired_words()) > 10


def test_a_docstring_begins_with_a_verb() -> None:
    """In the third person; that of a command, which is its help, in the imperative."""
    riddles = []
    for path in FILES:
        for function in functions(path):
            is_property = any("property" in ast.unparse(decorator) for decorator in function.decorator_list)
            is_command = module_name(path).startswith("cli.") and not function.name.startswith("_")
            first = (ast.get_docstring(function) or "Says").split()[0].strip(",.:")
            if not first.endswith("s") and first != "Context" and not is_property and not is_command:
                riddles.append(f"{module_name(path)}.{function.name}: {first}")
    assert not riddles


def test_a_name_of_a_class_is_used_once() -> None:
    classes = Counter(
        node.name for path in FILES for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef)
    )
    assert [name for name, count in classes.items() if count > 1] == []


@pytest.mark.parametrize("word", retired_words())
def test_retired_words_stay_away(word: str) -> None:
    end = "" if word.endswith("(") else r"(?!\w)"
    pattern = re.compile(rf"(?<![\w.-]){re.escape(word)}{end}", re.IGNORECASE)
    found = [
        f"{path.relative_to(PACKAGE)}:{number}: {line.strip()}"
        for path in SOURCES
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1)
        if pattern.search(line)
    ]
    assert not found
