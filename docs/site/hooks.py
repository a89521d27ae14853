"""What the site has beside docs/: pages from elsewhere, anchors of rules, links to what is cited.

A link to a file that does not exist, and a citation of a rule that does not exist, end the build.
"""

from __future__ import annotations

import re
from pathlib import Path
from posixpath import normpath, relpath
from typing import Any, Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

from revrnn.rules import CITATION, rules, sections

ROOT: Final = Path(__file__).parents[2]

# Pages of the site that stand elsewhere in the repository.
PAGES: Final[dict[str, str]] = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "ports/c/README.md": "ports/c.md",
    "spec/vectors/README.md": "spec/vectors.md",
    **{f"spec/text/{name}": f"spec/{name}" for name in sections()},
}
SOURCES: Final = {page: source for source, page in PAGES.items()}
SECTION_OF: Final = {
    rule: f"spec/{name}"
    for name, text in sections().items()
    for rule in rules()
    if f"### {rule} " in text
}

_LINK: Final = re.compile(r"(!?)\[([^\]]+)\]\(([^)\s]+)\)")
_RULE: Final = re.compile(r"^(### ([A-Z]+-\d{3}) .+)$", re.MULTILINE)
_TAG: Final = re.compile(r"(<[^>]+>)")
_ROLE: Final = re.compile(r":(?:attr|class|data|exc|func|meth|mod):(?=<code)")
_SHORTENED: Final = re.compile(r"(?<=<code>)~(?:\w+\.)*(?=\w+</code>)")
# What is within these is not searched for citations.
_CLOSED: Final = {"a", "code", "h1", "h2", "h3", "h4", "pre", "script", "style"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that stand elsewhere."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links of the repository into links of the site, and give every rule its anchor."""
    here = page.file.src_uri
    source = SOURCES.get(here, f"docs/{here}")

    def link(match: re.Match[str]) -> str:
        image, words, target = match.groups()
        path, _, anchor = target.partition("#")
        if not path or "://" in path or path.startswith("mailto:"):
            return match[0]
        path = normpath(str(Path(source).parent / path))
        if not (ROOT / path).exists():
            raise PluginError(f"{source}: a link to {target}, which does not exist")
        if path in PAGES:
            path = PAGES[path]
        elif path.startswith("docs/"):
            path = path.removeprefix("docs/")
        elif path == "spec/text":
            path = "spec/00-conventions.md"
        elif path in ("ports/c", "spec/vectors"):
            path = PAGES[f"{path}/README.md"]
        else:  # a file of the repository that is no page
            return words
        to = relpath(path, str(Path(here).parent))
        return f"{image}[{words}]({to}{'#' if anchor else ''}{anchor})"

    markdown = _LINK.sub(link, markdown)
    return _RULE.sub(r"\1 {#\2}", markdown) if here.startswith("spec/") else markdown


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Link every citation of a rule to its text, in prose and docstrings."""
    parts, depth = [], 0
    for part in _TAG.split(_SHORTENED.sub("", _ROLE.sub("", html))):
        if part.startswith("<"):
            name = part.strip("</>").split()[0] if part.strip("</>") else ""
            if name in _CLOSED:
                depth += -1 if part.startswith("</") else 1
        elif not depth:
            part = CITATION.sub(lambda match: _cited(match[0], page, files), part)
        parts.append(part)
    return "".join(parts)


def _cited(rule: str, page: Page, files: Files) -> str:
    if rule not in rules():
        raise PluginError(f"{page.file.src_uri}: cites {rule}, which does not exist")
    section: Any = files.get_file_from_path(SECTION_OF[rule])
    url = get_relative_url(section.url, page.url)
    return f'<a href="{url}#{rule}" title="{rules()[rule]}">{rule}</a>'
