"""What makes a site of README.md and docs/, beside what mkdocs.yml states.

README.md, CHANGELOG.md, …       ─▶ pages and files of the site, not written twice
links that work on GitHub        ─▶ links that work on the site
$$ LaTeX $$                      ─▶ MathML, which browsers show without a script
"""

from __future__ import annotations

import posixpath
import re
from html import unescape
from pathlib import Path

from math_core import LatexToMathML
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

_ROOT = Path(__file__).parent
_FROM_ROOT = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "LICENSE": "LICENSE.txt",
    "src/mixcoder/data/sources/digits.LICENSE.txt": "digits.LICENSE.txt",
    "mkdocs_iframe-worker.js": "iframe-worker.js",
}
"""Files outside docs/, and where they are on the site."""
_LINK = re.compile(r"(?<=\]\()[^)#\s]+")
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.S)
_CELL = re.compile(r"<td.*?</td>", re.S)
_MATHML = LatexToMathML()


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds what lies above docs/."""
    for source, target in _FROM_ROOT.items():
        files.append(File.generated(config, target, abs_src_path=str(_ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leads links within the repository to where their targets are on the site."""
    folder = Path(page.file.abs_src_path or "").relative_to(_ROOT).parent.as_posix()
    return _LINK.sub(lambda link: _on_site(link[0], folder), markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Shows formulas (one that is not LaTeX stops the build) and bars in tables, as GitHub does."""
    return _FORMULA.sub(_as_mathml, _CELL.sub(lambda cell: cell[0].replace(r"\|", "|"), html))


def _as_mathml(formula: re.Match[str]) -> str:
    tag, latex = formula.groups()
    is_block = tag == "div"
    mathml = _MATHML.convert_with_local_state(unescape(latex).strip(), displaystyle=is_block)
    return f'<div style="overflow-x: auto; padding: 0.5em 0">{mathml}</div>' if is_block else mathml


def _on_site(link: str, folder: str) -> str:
    """A link in a document of `folder` as one between pages, which all lie side by side."""
    if "://" in link:
        return link
    path = posixpath.normpath(posixpath.join(folder, link))
    return _FROM_ROOT.get(path) or posixpath.relpath(path, "docs")
