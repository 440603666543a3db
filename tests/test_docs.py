"""The guides: every relative link leads somewhere, and the README's table names what the code has."""

import re
from pathlib import Path

import pytest

from refusion_jax.data.datasets import TABLE

PAGES = ("*.md", "docs/*.md", "docs/reference/*.md", "benchmarks/*.md", "refusion_jax/pretrained/*.md")
LINK = re.compile(r"\]\(([^)\s]+)\)")


def pages(repo: Path) -> list[Path]:
    """All pages of the repository."""
    return [page for pattern in PAGES for page in sorted(repo.glob(pattern))]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(page: Path) -> list[str]:
    """Relative links of a page to files or headings that do not exist."""
    bad = []
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or anchor and anchor not in anchors(target):
            bad.append(link)
    return bad


def test_no_relative_link_is_broken(repo):
    assert not {str(page.relative_to(repo)): bad for page in pages(repo) if (bad := broken(page))}


@pytest.mark.parametrize(
    ("text", "expected"), [("[a](b.md)", ["b.md"]), ("# One two\n[a](#one-two) [b](#three)", ["#three"])]
)
def test_a_broken_link_is_found(tmp_path, text, expected):
    page = tmp_path / "page.md"
    page.write_text(text)
    assert broken(page) == expected


def test_every_name_in_the_table_from_paper_to_code_is_defined_in_its_file(repo):
    readme = (repo / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\|[^|\n]+\|([^|\n]+\.py\)[^|\n]*)\|([^|\n]+)\|$", readme, re.MULTILINE)
    assert len(rows) > 10
    for files, names in rows:
        code = "\n".join((repo / link).read_text(encoding="utf-8") for link in LINK.findall(files))
        for name in re.findall(r"`(\w+)`", names):
            assert re.search(rf"^\s*(def|class) {name}\b", code, re.MULTILINE), f"{name} is not defined in {files}"


def test_the_readme_is_short(repo):
    assert len((repo / "README.md").read_bytes()) <= 7000


def test_every_package_has_its_page_of_reference(repo):
    packages = {folder.parent.name for folder in (repo / "refusion_jax").glob("*/__init__.py")}
    documented = {page.stem for page in (repo / "docs" / "reference").glob("*.md")}
    assert packages <= documented


def test_every_data_set_of_the_table_is_in_the_guide(repo):
    guide = (repo / "docs" / "data.md").read_text(encoding="utf-8")
    assert not {name for row in TABLE for name in row.name.split(" or ") if name not in guide}
