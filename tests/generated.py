"""What the repository keeps of what a command prints: `python -m tests.generated` writes it anew."""

from __future__ import annotations

from pathlib import Path

from mixcoder.backends.native.rules import rules_markdown
from mixcoder.experiments.file.reference import reference_markdown
from mixcoder.experiments.file.schema import schema_json
from mixcoder.experiments.results.columns import measures_markdown

DOCS = Path(__file__).parents[1] / "docs"
SCHEMA = DOCS / "experiment.schema.json"
DOCUMENT = DOCS / "experiment-file.md"
REPORTS = DOCS / "reports.md"
OWN_NETWORKS = DOCS / "own-networks.md"
BEGIN, END = "<!-- mixcoder schema --format md -->\n", "<!-- to here -->\n"
BY_PYTHON = "<!-- python -m tests.generated -->\n"


def generated() -> dict[Path, str]:
    """What each file should hold now."""
    return {
        SCHEMA: schema_json(),
        DOCUMENT: _with_table(DOCUMENT, BEGIN, reference_markdown()),
        REPORTS: _with_table(REPORTS, BY_PYTHON, measures_markdown()),
        OWN_NETWORKS: _with_table(OWN_NETWORKS, BY_PYTHON, rules_markdown()),
    }


def _with_table(document: Path, begin: str, table: str) -> str:
    """The document with the table between the lines `begin` and `END`."""
    before, rest = document.read_text(encoding="utf-8").split(begin)
    _, after = rest.split(END)
    return f"{before}{begin}\n{table}\n{END}{after}"


if __name__ == "__main__":
    for path, text in generated().items():
        path.write_text(text, encoding="utf-8")
        print(path)
