"""What the repository keeps of what a command prints: `python -m tests.generated` writes it anew."""

from __future__ import annotations

from pathlib import Path

from mixcoder.experiments.file.reference import reference_markdown
from mixcoder.experiments.file.schema import schema_json

DOCS = Path(__file__).parents[1] / "docs"
SCHEMA = DOCS / "experiment.schema.json"
DOCUMENT = DOCS / "experiment-file.md"
BEGIN, END = "<!-- mixcoder schema --format md -->\n", "<!-- to here -->\n"


def generated() -> dict[Path, str]:
    """What each file should hold now."""
    before, rest = DOCUMENT.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    return {SCHEMA: schema_json(), DOCUMENT: f"{before}{BEGIN}\n{reference_markdown()}\n{END}{after}"}


if __name__ == "__main__":
    for path, text in generated().items():
        path.write_text(text, encoding="utf-8")
        print(path)
