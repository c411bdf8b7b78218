"""The site: built strictly, with every page, and nothing in it that comes from elsewhere."""

import os
import re
import subprocess
import sys

import pytest

from coinfer.documentation.shown import ROOT

pytest.importorskip("mkdocs", reason="the extra 'docs' is not installed")
pytestmark = pytest.mark.system
FROM_ELSEWHERE = re.compile(
    r"<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)=[\"']?(?:https?:)?//"
)


def build(folder, config):
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", config, "-d", folder],
        capture_output=True, text=True, check=False, cwd=ROOT, timeout=170,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip


def test_the_site_is_built_strictly_and_asks_nobody(tmp_path):
    done = build(tmp_path / "site", ROOT / "mkdocs.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    made = sorted((tmp_path / "site").rglob("*.html"))
    assert len(made) > 30
    for page in made:
        found = FROM_ELSEWHERE.findall(page.read_text())
        assert not found, f"{page.name}: {found[:3]}"
        assert 'class="mermaid"' not in page.read_text(), "diagrams that a script elsewhere draws"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("[nowhere](nowhere.md)", "'nowhere.md'"),
        ("[no heading](#no-such-heading)", "no-such-heading"),
        (None, "not included in the"),
    ],
)
def test_a_broken_link_and_a_page_outside_the_navigation_fail(tmp_path, more, said):
    """The settings of validation, on a site of two pages."""
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "index.md").write_text(f"# A\n{more or ''}\n")
    if more is None:
        (docs / "other.md").write_text("# B\n")
    text = (ROOT / "mkdocs.yml").read_text()
    text = re.sub(r"^plugins:.*?^markdown_extensions:", "plugins: []\nmarkdown_extensions:", text,
                  flags=re.MULTILINE | re.DOTALL)  # fmt: skip
    text = text[: text.index("\nnav:")] + "\nnav:\n  - index.md\n"
    (tmp_path / "mkdocs.yml").write_text(text)
    done = build(tmp_path / "site", tmp_path / "mkdocs.yml")
    assert done.returncode != 0
    assert said in done.stdout + done.stderr
