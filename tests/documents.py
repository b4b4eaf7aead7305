"""Follows a page of the documents: does what it says, in the order of the page.

page ─▶ blocks ─┬─ below "… `mine.yml`:"              ─▶ a file of that name
                ├─ sh, or lines such as "mixcoder …"  ─▶ commands: run, or checked where `NOT_RUN` says so
                ├─ python                             ─▶ run, all of a page as one program
                ├─ yaml with a name of its own        ─▶ read as an experiment
                └─ text                               ─▶ what the block before it printed; "…" is anything
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token
from packaging.requirements import Requirement
from typer.core import TyperGroup

from mixcoder.cli.app import create_app
from mixcoder.data import create_source
from mixcoder.experiments.file.spec import read_experiment
from mixcoder.experiments.file.yaml_file import parse_assignment
from mixcoder.experiments.runs.training_run import train_run
from tests.conftest import Cli
from tests.experiments.searches.inline import InlineWorkers, search_on

ROOT = Path(__file__).parents[1]
DOCUMENTS = ["README.md", *(path.relative_to(ROOT).as_posix() for path in sorted(ROOT.glob("docs/*.md")))]

NOT_RUN = {
    r"make \w+": "sets up a virtual environment, from the network",
    r"pip install": "the network",
    r"torchrun ": "several processes",
    r"mixcoder data fetch (unsplash|hub)": "the network",
    r"mixcoder \w+ (experiments/(mnist|photos)/|runs/photos-)": "minutes to hours of training",
    r"mixcoder \w+ experiments/small-and-powerful/": "minutes to hours of training",
    r"mixcoder reconstruct mixcoder-": "the real MNIST",
    r"python -m benchmarks\.": "minutes of measuring",
}
"""Commands that are checked, not run, and why: what they begin with."""

_PROGRAMS = ("mixcoder ", "make ", "pip ", "python ", "torchrun ")
_FILE = re.compile(r"`([\w./-]+\.(?:yml|py))`:\Z")
_DURATION = re.compile(r"\binputs(?:=|: )([\d_]+)")
_FEW_INPUTS = "640"
_LAST_RUNG = re.compile(r"^  inputs: \[(?:.*, )?([\d_]+)\]", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        language: what it is marked with.
        content: its lines.
        file: the file that it is to be, by the paragraph above it; or "".
    """

    language: str
    content: str
    file: str

    @property
    def commands(self) -> list[str]:
        """Its command lines: all of a block marked `sh`; what looks like one elsewhere."""
        if self.file or self.language not in ("sh", ""):
            return []
        lines = self.content.replace("\\\n", " ").splitlines()
        return [line for line in lines if line and (self.language == "sh" or line.startswith(_PROGRAMS))]


def read_document(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks_of(page: str) -> list[Block]:
    tokens = _tokens(page)
    code = [i for i, token in enumerate(tokens) if token.type in ("fence", "code_block")]
    return [Block(tokens[i].info, tokens[i].content, _file_named_above(tokens, i)) for i in code]


def faq_sentences() -> dict[str, str]:
    """What the page on errors shows, by its headings."""
    page = read_document("docs/faq.md")
    return dict(re.findall(r"^### ([^\n]*)\n\n```\n(.*?)^```$", page, flags=re.M | re.S))


def headings_of(page: str) -> list[str]:
    """The page's headings, without their marks."""
    tokens = _tokens(page)
    inner = [tokens[i + 1].children or [] for i, token in enumerate(tokens) if token.type == "heading_open"]
    return ["".join(child.content for child in children) for children in inner]


def shortened(page: str) -> str:
    """The page with ten steps for every training that it states, where it shows their number too.

    Finalists of a search train no shorter than its last rung.
    """
    few = max([_FEW_INPUTS, *_LAST_RUNG.findall(page)], key=int)
    for number in sorted(set(_DURATION.findall(page)), key=len, reverse=True):
        page = page.replace(number, few).replace(f"{int(number):,}", few)
    return page


def follow(page: str, cli: Cli) -> None:
    """Does what a page says, in the current folder; fails where the page is wrong."""
    blocks, names, printed = blocks_of(page), dict[str, Any](), ""
    for i, block in enumerate(blocks):
        if block.file:
            Path(block.file).parent.mkdir(parents=True, exist_ok=True)
            Path(block.file).write_text(block.content)
            assert block.language != "python" or _is_used(block.file, blocks[i:]), block.file
        elif block.commands:
            printed = "".join(_perform(command, cli) for command in block.commands)
        elif block.language == "python":
            printed = _execute(block.content, names)
        elif block.language == "yaml" and re.search(r"^name:", block.content, flags=re.M):
            Path("unnamed.yml").write_text(block.content)
            read_experiment(Path("unnamed.yml"))
        elif block.language == "text":
            assert_shown(block.content, printed)


def assert_shown(expected: str, printed: str) -> None:
    """Every line is among those printed, in this order; "…" stands for anything, and spaces do not count."""
    lines = iter(_squeezed(printed))
    for line in _squeezed(expected):
        pattern = ".*".join(map(re.escape, line.split("…")))
        assert any(re.fullmatch(pattern, each) for each in lines), f"{line} is not in\n{printed}"


def check_spans(page: str) -> None:
    """Commands within the text, which have placeholders, name only what there is."""
    for span in _spans(page):
        if span.startswith("mixcoder ") and "experiments/" in span:
            check(span)
        elif span.startswith("mixcoder ") and not span.startswith("mixcoder --"):
            _check_names(re.sub(r"[\[\]…|]", " ", span).split()[1:])
        elif span.startswith("make "):
            check(span)


def check(command: str) -> None:
    """Refuses a command line that cannot be right, without running it."""
    program, *words = shlex.split(command, comments=True)
    if program == "make":
        target = words[0]
        assert re.search(rf"^{target}:", read_document("Makefile"), flags=re.M), f"make knows no {target}"
    elif program == "pip":
        _check_requirement(words[-1])
    elif program == "python":
        assert (ROOT / f"{words[1].replace('.', '/')}.py").is_file(), command
    elif program == "torchrun":
        _check_parameters(parsed(words[words.index("mixcoder") + 1 :]).params)
    else:
        _check_parameters(parsed(words).params)


def parsed(words: Iterable[str]) -> Any:
    """What Typer makes of the words after `mixcoder`, without doing it.

    Raises:
        UsageError: Typer's, where they are no command line.
    """
    command: Any = create_app()
    context = command.make_context("mixcoder", list(words))
    while isinstance(command, TyperGroup):
        rest = [*context._protected_args, *context.args]
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)
    return context


def _perform(command: str, cli: Cli) -> str:
    """Runs a command, or checks it; what it prints."""
    if any(re.match(pattern, command) for pattern in NOT_RUN):
        check(command)
        return ""
    program, *words = shlex.split(command, comments=True)
    if program != "mixcoder":
        return subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout
    words, target = (words[:-2], words[-1]) if ">" in words[-2:-1] else (words, "")
    if words[0] == "run":
        _train_all_but_one(parsed(words).params)
    status, out, err = cli(*words)
    assert status == 0, f"{command}\n{err}"
    if target:
        Path(target).write_text(out)
        return err
    return err + out


def _train_all_but_one(parameters: dict[str, Any]) -> None:
    """Trains in this process what a sweep would, as a worker takes seconds to start.

    A matrix is left one run, a search none.
    """
    experiment = read_experiment(Path(parameters["file"]), parameters["overrides"] or [])
    if experiment.search:
        search_on(experiment, InlineWorkers(Path(parameters["runs"])))
    for run in experiment.runs[1:]:
        train_run(run, Path(parameters["runs"]), lambda loop, progress: None)


def _execute(program: str, names: dict[str, Any]) -> str:
    with redirect_stdout(StringIO()) as printed:
        exec(compile(program, "page", "exec"), names)
    return printed.getvalue()


def _check_parameters(parameters: dict[str, Any]) -> None:
    """Reads the experiments of the project that a command names; makes the data source that it names."""
    place = str(parameters.get("file") or parameters.get("source") or "")
    others = parameters.get("overrides") or []
    files = [name for name in (place, *others) if name.startswith("experiments/") and "=" not in name]
    changes = [change for change in others if change not in files]
    for pattern in files:
        for path in sorted(ROOT.glob(pattern)) or [ROOT / pattern]:
            read_experiment(path, changes)
    if "origin" in parameters:
        create_source(parameters["name"], **dict(map(parse_assignment, parameters["arguments"] or [])))


def _check_requirement(text: str) -> None:
    requirement = Requirement(text if text[0] != "." else f"mixcoder{text[1:]}")
    assert requirement.name == "mixcoder"
    for extra in requirement.extras:
        assert re.search(rf"^{extra} = \[", read_document("pyproject.toml"), flags=re.M), extra


def _check_names(words: list[str]) -> None:
    """Refuses commands and options that there are not."""
    command: Any = create_app()
    context = command.make_context("mixcoder", ["-"])
    while words and isinstance(command, TyperGroup):
        assert words[0] in command.commands, f"there is no command {words[0]}"
        _, command, words = command.resolve_command(context, words)
    known = {option for each in command.params for option in each.opts}
    for word in words:
        option = word.partition("=")[0]
        assert not re.match("--?[a-z]", option) or option in known, f"{command.name} has no {option}"


def _is_used(file: str, blocks: list[Block]) -> bool:
    return any(file in command for block in blocks for command in block.commands)


def _file_named_above(tokens: list[Token], at: int) -> str:
    """The file that the last words of the paragraph before a block name."""
    above = tokens[at - 1].type == "paragraph_close" and _FILE.search(tokens[at - 2].content)
    return above[1] if above else ""


def _squeezed(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def _spans(page: str) -> Iterator[str]:
    """What is marked as code within the text."""
    for token in _tokens(page):
        for child in token.children or []:
            if child.type == "code_inline":
                yield child.content


def _tokens(page: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page)
