"""Command lines of the scripts: a mistake is one line on standard error, and exit code 2."""

import pytest

from experiments.arguments import LineParser, count


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--count", "0"], "tool: argument --count: found '0', expected a whole number of 1"),
        (["--cuont", "1"], "tool: unrecognized arguments: --cuont 1"),
    ],
)
def test_a_mistake_is_one_line_without_usage(argv, said, capsys):
    parser = LineParser(prog="tool")
    parser.add_argument("--count", type=count, help="of anything")
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(argv)
    assert ended.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(said)
