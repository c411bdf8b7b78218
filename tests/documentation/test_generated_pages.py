"""Pages that are made from the code are what the code gives, and leave nothing unexplained."""

from pathlib import Path

import numpy as np
import pytest

from coinfer.documentation.__main__ import DOCS, PAGES
from coinfer.documentation.commands import application_commands
from coinfer.documentation.formats import documented
from coinfer.documentation.formats.inputs import OUTCOME_ARRAYS
from coinfer.documentation.formats.outputs import POLICY_ARRAYS
from coinfer.documentation.metrics import metrics_page, parse, shown_metrics
from coinfer.documentation.structures import fields_of, meanings, nested
from controller.daemon.configuration.settings import DeviceSettings, EdgeSettings

METRICS = "reference/metrics.md"
STALE = "stale: run `python -m coinfer.documentation` and commit what it writes"


@pytest.mark.parametrize("name", [name for name in PAGES if name != METRICS])
def test_a_page_is_what_the_code_gives(name):
    assert (DOCS / name).read_text() == PAGES[name](), STALE


@pytest.mark.system
def test_the_page_of_metrics_is_what_a_device_and_an_edge_show():
    assert (DOCS / METRICS).read_text() == metrics_page(*shown_metrics()), STALE


def test_prometheus_text_is_read():
    text = (
        "# HELP a_total Of a\n# TYPE a_total counter\n"
        'a_total{where="edge",by="x"} 1.0\na_total{where="",by="y"} 2.0\n'
        "# HELP a_created Of a\n# TYPE a_created gauge\na_created 1.7e9\n"
        '# HELP b Of b\n# TYPE b histogram\nb_bucket{le="0.1",plan="exit 1, edge"} 1.0\n'
    )
    one, two = parse(text)
    assert (one.name, one.kind, one.meaning, one.labels) == (
        "a_total", "counter", "Of a", ["where", "by"],
    )  # fmt: skip
    assert (two.name, two.kind, two.labels) == ("b", "histogram", ["plan"])


CONFIGURED = [k for root in (DeviceSettings, EdgeSettings) for k in (root, *nested(root))]
STRUCTURES = sorted({*CONFIGURED, *documented()}, key=lambda kind: kind.__qualname__)


@pytest.mark.parametrize("kind", STRUCTURES, ids=lambda kind: kind.__name__)
def test_every_key_says_what_it_means(kind):
    missing = {f.name for f in fields_of(kind) if not meanings(kind).get(f.name)}
    assert not missing, f"{kind.__module__}.{kind.__name__}: {missing}"


def test_every_option_says_what_it_means():
    missing = [
        f"{name} {p.name}"
        for name, c in application_commands()
        for p in c.params
        if not p.help and not getattr(p, "hidden", False)
    ]
    assert not missing


@pytest.mark.parametrize(
    ("rows", "file"),
    [
        (OUTCOME_ARRAYS, "models/shipped/mobilenetv2/outcomes.npz"),
        (POLICY_ARRAYS, "controller/policies/shipped/3g-mobilenet/policy.npz"),
    ],
)
def test_the_arrays_of_a_file_are_those_of_the_shipped_one(rows, file):
    named = {name: kind for name, kind, _ in rows}
    with np.load(DOCS.parent / file) as arrays:
        assert set(arrays.files) == set(named)
        for name in arrays.files:
            kind = arrays[name].dtype
            word = {"U": "text", "i": "whole number"}.get(kind.kind, kind.name)
            assert named[name].startswith(kind.name) or named[name].startswith(word), name


def test_every_option_s_type_is_one_that_people_know():
    page = (Path(__file__).parents[2] / "docs" / "reference" / "commands.md").read_text()
    types = {row.split("|")[2].strip().partition(",")[0] for row in page.splitlines()
             if row.startswith("| `-")}  # fmt: skip
    assert types <= {"text", "switch", "path", "whole number", "number"}
