"""docs/pictures/system.svg: device, link and edge, and a frame's way through them.

The same bytes every time. Colours carry no meaning alone: every part is named.
"""

from __future__ import annotations

from html import escape

WIDTH, HEIGHT = 920, 350
STYLE = """\
text{font:14px system-ui,sans-serif;fill:#1c2733}.small{font-size:12px;fill:#495866}
.title{font-weight:600}.box{fill:#f4f6f8;stroke:#9aa7b4}.on{fill:#cfe3ff;stroke:#3b73c4}
.edge{fill:#d9f2dc;stroke:#3a8f4b}.exit{fill:#fff1c9;stroke:#b58a12}.idle{fill:#fff;stroke:#c5ced6}
.way{fill:none;stroke:#1c2733;stroke-width:1.6;marker-end:url(#tip)}
.dash{stroke-dasharray:5 4}.rate{fill:none;stroke:#c0392b;stroke-width:1.6}"""
LAYERS, CUT = 6, 3
RATES = (20, 16, 18, 8, 4, 5, 12, 22, 19, 24, 10, 3, 9, 17)


def system_picture() -> str:
    """The picture as SVG."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'aria-label="A frame on its way: device, link, edge">',
        f"<style>{STYLE}</style>",
        '<defs><marker id="tip" markerWidth="10" markerHeight="8" refX="9" refY="4" '
        'markerUnits="userSpaceOnUse" '
        'orient="auto"><path d="M0,0 L10,4 L0,8 z" fill="#1c2733"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        *_machine(20, "Device: a Raspberry Pi", "on", range(CUT)),
        *_machine(570, "Edge server", "edge", range(CUT, LAYERS)),
        *_link(),
        *_frame(),
    ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _text(x: float, y: float, said: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{escape(said)}</text>'


def _box(x: float, y: float, width: float, height: float, kind: str) -> str:
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5" class="{kind}"/>'
    )


def _machine(left: float, title: str, kind: str, computed: range) -> list[str]:
    """A machine with the network's layers; those that it computes of this frame are filled."""
    parts = [_box(left, 56, 330, 190, "box"), _text(left + 14, 80, title, "title")]
    for k in range(LAYERS):
        x = left + 20 + 50 * k
        here = k in computed
        parts.append(_box(x, 116, 38, 54, kind if here else "idle"))
        parts.append(_text(x + 19, 148, str(k + 1), "" if here else "small", "middle"))
    for k, number in ((1, 1), (LAYERS - 1, 2)):  # an early exit and the last
        x = left + 20 + 50 * k
        parts.append(_box(x - 6, 192, 50, 26, "exit"))
        parts.append(_text(x + 19, 209, f"exit {number}", "small", "middle"))
        parts.append(f'<path d="M{x + 19:g},170 V192" stroke="#b58a12"/>')
    parts.append(_text(left + 14, 104, "layers of the network", "small"))
    return parts


def _link() -> list[str]:
    """The link: its bandwidth moves."""
    points = " ".join(f"{368 + 14 * k},{106 - rate}" for k, rate in enumerate(RATES))
    return [
        _text(460, 74, "4G / LTE link", "title", "middle"),
        f'<polyline points="{points}" class="rate"/>',
        _text(460, 118, "bandwidth over time", "small", "middle"),
        '<path d="M352,158 H568" class="way"/>',
        _text(460, 152, "what is there at the cut,", "small", "middle"),
        _text(460, 174, "compressed by a codec", "small", "middle"),
        '<path d="M568,214 H352" class="way"/>',
        _text(460, 208, "the answer", "small", "middle"),
    ]


def _frame() -> list[str]:
    """Where a frame comes from, and where its answer goes."""
    plan = (
        "1  A frame comes, with a deadline. The controller picks a plan: exit 2, cut after layer 3."
    )
    late = "2  Local fallback: exit 1 answers here where the edge is late."
    return [
        _text(20, 30, plan, "small"),
        '<path d="M109,218 V282" class="way dash"/>',
        _box(64, 284, 90, 28, "exit"),
        _text(109, 303, "answer", "small", "middle"),
        _text(64, 334, late, "small"),
        '<path d="M350,214 C330,290 230,298 158,298" class="way"/>',
        _text(570, 272, "3  The edge computes layers 4 to 6: exit 2 answers.", "small"),
        _text(585, 292, "What arrives after the deadline counts as wrong.", "small"),
    ]
