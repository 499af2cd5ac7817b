"""Draws docs/architecture.svg: the packages, layered by the import law, with their imports.

    .venv/bin/python docs/draw_architecture.py

The layers are read from pyproject.toml and the arrows from the code, by grimp, which import-linter
brings along. A test holds that the drawing equals what this makes, so it shows no figure that
changes daily: a box has one of three widths by its lines, and an arrow that follows from others
(a package imports what its imports import) is left out.
"""

import re
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from math import fsum
from pathlib import Path

import grimp

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
DRAWING = DOCS / "architecture.svg"

# Lines of code up to which a box is that much wider than its name.
WIDTHS = ((350, 16), (2_700, 56), (10**9, 120))
CHARACTER = 7.3
BOX, ROW, GAP, MARGIN, BAND = 26, 48, 26, 16, 30  # heights, then distances
BESIDE = 22  # so far to a side an arrow may move from row to row and pass boxes without a bend
SWEEPS = 100  # over the rows, up and down, until the order and the places no longer change

STYLE = """
svg { color: #1f2328; font: 12px ui-monospace, Menlo, Consolas, monospace; }
.back { fill: #ffffff; } .band { fill: #f3f5f8; }
.face { fill: #dbeafe; stroke: #5b8def; } .dialect { fill: #ede4ff; stroke: #9a72e8; }
.core { fill: #dcf3e3; stroke: #4aa96c; } .ground { fill: #ececec; stroke: #9aa0a6; }
.arrow { fill: none; stroke: #7b8794; stroke-width: 1.3; } .head { fill: #7b8794; }
text { fill: currentColor; text-anchor: middle; }
.note, .key { font-family: system-ui, sans-serif; } .key { text-anchor: start; }
.title { font-weight: 600; font-size: 14px; }
@media (prefers-color-scheme: dark) {
  svg { color: #e6edf3; }
  .back { fill: #0d1117; } .band { fill: #171d26; }
  .face { fill: #16294a; stroke: #4d7fd6; } .dialect { fill: #2d2149; stroke: #8d68d6; }
  .core { fill: #14321f; stroke: #3f9960; } .ground { fill: #2a2f36; stroke: #7d858f; }
  .arrow { stroke: #8b98a5; } .head { fill: #8b98a5; }
}
"""

Arrow = tuple[str, str]


@dataclass(eq=False)
class Node:
    """A box, or, without a name, the place where an arrow passes a row."""

    name: str
    row: int
    width: float
    x: float = 0.0
    above: list["Node"] = field(default_factory=list)
    below: list["Node"] = field(default_factory=list)


@dataclass
class Panel:
    """A part of the drawing. rows: from the top, the full names of the modules in each."""

    title: str
    rows: list[list[str]]
    arrows: set[Arrow]
    lines: Mapping[str, int]


def law(container: str) -> list[list[str]]:
    """Read the layers inside a package from pyproject.toml: full names, the highest first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    (layers,) = [
        contract["layers"]
        for contract in contracts["contracts"]
        if contract.get("containers") == [container]
    ]
    return [
        [f"{container}.{name.strip(' ()')}" for name in re.split(r"[|:]", layer)]
        for layer in layers
    ]


def imports_between(graph: grimp.ImportGraph, boxes: Sequence[str]) -> set[Arrow]:
    """Find which boxes import which: modules are in the box of the longest name they begin with."""
    longest_first = sorted(boxes, key=len, reverse=True)

    def box_of(module: str) -> str | None:
        return next((box for box in longest_first if f"{module}.".startswith(f"{box}.")), None)

    found = set()
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            pair = (box_of(module), box_of(imported))
            if None not in pair and pair[0] != pair[1]:
                found.add(pair)
    return found


def without_implied(arrows: set[Arrow]) -> set[Arrow]:
    """Leave out each arrow for which there is a longer way round."""
    targets: dict[str, set[str]] = {}
    for source, target in arrows:
        targets.setdefault(source, set()).add(target)

    def reached(start: str) -> set[str]:
        found, left = set(), [*targets.get(start, ())]
        while left:
            one = left.pop()
            if one not in found:
                found.add(one)
                left += targets.get(one, ())
        return found

    return {
        (source, target)
        for source, target in arrows
        if not any(target in reached(other) for other in targets[source] - {target})
    }


def split_rows(rows: Iterable[Sequence[str]], arrows: set[Arrow]) -> list[list[str]]:
    """Part rows in which one imports another, so that every arrow points down."""
    parted = []
    for names in rows:
        depth = dict.fromkeys(names, 0)
        for _ in names:
            for source, target in sorted(arrows):
                if source in depth and target in depth:
                    depth[target] = max(depth[target], depth[source] + 1)
        levels = [[name for name in names if depth[name] == level] for level in range(len(names))]
        parted += [level for level in levels if level]
    return parted


def count_lines(name: str) -> int:
    """Count the lines of a module or package, migrations left out."""
    path = ROOT.joinpath(*name.split("."))
    files = path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]
    return sum(
        len(file.read_text("utf-8").splitlines())
        for file in files
        if "migrations" not in file.parts
    )


def place(panel: Panel) -> list[list[Node]]:
    """Place the boxes of a panel, and the arrows where they pass rows, around x = 0."""
    grid: list[list[Node]] = []
    nodes: dict[str, Node] = {}
    for row, names in enumerate(panel.rows):
        grid.append([])
        for name in names:
            wider = next(wider for limit, wider in WIDTHS if panel.lines[name] <= limit)
            nodes[name] = Node(name, row, len(shown(name)) * CHARACTER + wider)
            grid[row].append(nodes[name])
    for source, target in sorted(panel.arrows):
        last = nodes[source]
        for row in range(last.row + 1, nodes[target].row):
            passing = Node("", row, 0)
            grid[row].append(passing)
            _link(last, passing)
            last = passing
        _link(last, nodes[target])
    _order(grid)
    for _ in range(SWEEPS):
        for nodes_of_row in [*grid, *reversed(grid)]:
            _spread(nodes_of_row)
    return grid


def _link(upper: Node, lower: Node) -> None:
    upper.below.append(lower)
    lower.above.append(upper)


def _order(grid: list[list[Node]]) -> None:
    """Order each row so that few arrows cross, by the mean place of the neighbours."""
    best, fewest = [list(row) for row in grid], _crossings(grid)
    for sweep in range(SWEEPS):
        is_down = sweep % 2 == 0
        for row in grid if is_down else reversed(grid):
            around = {id(one): index for line in grid for index, one in enumerate(line)}

            def mean(node: Node, is_down: bool = is_down, at: Mapping[int, int] = around) -> float:
                near = (node.above if is_down else node.below) or [node]
                return sum(at[id(one)] for one in near) / len(near)

            row.sort(key=mean)
        if (count := _crossings(grid)) < fewest:
            best, fewest = [list(row) for row in grid], count
    grid[:] = best


def _crossings(grid: list[list[Node]]) -> int:
    count = 0
    for upper, lower in pairwise(grid):
        at = {id(node): index for index, node in enumerate(lower)}
        ends = [(index, at[id(end)]) for index, node in enumerate(upper) for end in node.below]
        count += sum(a < c and b > d for a, b in ends for c, d in ends)
    return count


def _spread(row: list[Node]) -> None:
    """Move a row's nodes to where their neighbours pull them, as far as they keep their distance.

    Least squares under the order of the row: neighbours that would come too near move as one.
    fsum, since sum is more exact from Python 3.12 on, and the drawing is to be the same.
    """
    offset, blocks = 0.0, []
    for index, node in enumerate(row):
        if index:
            before = row[index - 1]
            gap = GAP if node.name and before.name else GAP / 2
            offset += (before.width + node.width) / 2 + gap
        pulls = [(one.x, _stiffness(node, one)) for one in (*node.above, *node.below)]
        weight = fsum(stiffness for _, stiffness in pulls)
        wish = fsum(x * stiffness for x, stiffness in pulls) / weight
        blocks.append((wish - offset, weight, [(node, offset)]))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (x, heavy, held), (other_x, other_heavy, others) = blocks.pop(-2), blocks.pop()
            both = heavy + other_heavy
            blocks.append(((x * heavy + other_x * other_heavy) / both, both, held + others))
    for x, _, held in blocks:
        for node, offset in held:
            node.x = x + offset


def _stiffness(one: Node, other: Node) -> float:
    """Weigh a piece of an arrow: where it only passes, it should run straight."""
    return (1.0, 3.0, 12.0)[(not one.name) + (not other.name)]


def shown(name: str) -> str:
    """Give a box its text: what is below its group's own name."""
    return re.sub(r"^(apps\.evaluations|apps|evalplatform)\.", "", name)


def kind(name: str) -> str:
    if name.startswith("evalplatform.dialects."):
        return "dialect"
    return "face" if name.startswith("evalplatform.") else "core"


def text(x: float, y: float, content: str, style: str = "", turned: bool = False) -> str:
    turn = f' transform="rotate(-90 {x:.0f} {y:.0f})"' if turned else ""
    named = f' class="{style}"' if style else ""
    return f'<text x="{x:.0f}" y="{y:.0f}"{named}{turn}>{escape(content)}</text>'


def rectangle(x: float, y: float, width: float, height: float, style: str) -> str:
    return (
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{height:.0f}" rx="5"'
        f' class="{style}"/>'
    )


def port(node: Node, other: Node, others: Sequence[Node]) -> float:
    """Find where an arrow leaves or meets a box: side by side in the order of the other ends."""
    if not node.name:
        return node.x
    at = sorted(others, key=lambda one: one.x).index(other) + 1
    return node.x + node.width * (at / (len(others) + 1) - 0.5) * 0.7


def curve(points: Sequence[tuple[float, float]]) -> str:
    """Draw a line down through points: upright at its ends, never beyond a point to a side."""

    def slope(index: int) -> float:
        if not 0 < index < len(points) - 1:
            return 0.0
        (x0, y0), (x1, y1), (x2, y2) = points[index - 1 : index + 2]
        before, after = (x1 - x0) / (y1 - y0), (x2 - x1) / (y2 - y1)
        return min(before, after, key=abs) if before * after > 0 else 0.0

    path = f"M{points[0][0]:.0f} {points[0][1]:.0f}"
    for index, ((x0, y0), (x1, y1)) in enumerate(pairwise(points)):
        third = (y1 - y0) / 2.4
        path += (
            f"C{x0 + slope(index) * third:.0f} {y0 + third:.0f}"
            f" {x1 - slope(index + 1) * third:.0f} {y1 - third:.0f} {x1:.0f} {y1:.0f}"
        )
    return path


def draw_panel(grid: list[list[Node]], left: float, top: float) -> list[str]:
    """Draw boxes and arrows. left: the middle of the panel. top: of its first row."""
    arrows, boxes = [], []
    for node in (node for row in grid for node in row if node.name):
        y = top + node.row * ROW
        boxes.append(rectangle(left + node.x - node.width / 2, y, node.width, BOX, kind(node.name)))
        boxes.append(text(left + node.x, y + BOX / 2 + 4, shown(node.name)))
        for end in node.below:
            points = [(left + port(node, end, node.below), y + BOX)]
            last = node
            while not end.name:
                x, upper, (after,) = left + end.x, top + end.row * ROW, end.below
                if max(abs(points[-1][0] - x), abs(left + after.x - x)) < BESIDE:
                    points.append((x, upper + BOX / 2))
                else:  # upright past the row, or it would touch the boxes beside it
                    points += [(x, upper), (x, upper + BOX)]
                last, end = end, after
            points.append((left + port(end, last, end.above), top + end.row * ROW - 4))
            arrows.append(f'<path d="{curve(points)}" class="arrow" marker-end="url(#head)"/>')
    return arrows + boxes


def band(grid: list[list[Node]], rows: Iterable[int], name: str, frame: "Frame") -> list[str]:
    """Draw the ground on which neighbouring rows stand, and its name along its left edge."""
    numbers = [number for number in rows if number < len(grid)]
    y = frame.top + numbers[0] * ROW - (ROW - BOX) / 2 + 2
    height = len(numbers) * ROW - 4
    return [
        rectangle(frame.left, y, frame.width, height, "band"),
        text(frame.left + 17, y + height / 2, name, "note", turned=True),
    ]


@dataclass(frozen=True)
class Frame:
    """The place of a panel: left edge, first row, width, and the middle of its boxes."""

    left: float
    top: float
    width: float
    middle: float

    @classmethod
    def around(cls, grid: list[list[Node]], left: float, top: float) -> "Frame":
        nodes = [node for row in grid for node in row]
        low = min(node.x - node.width / 2 for node in nodes)
        high = max(node.x + node.width / 2 for node in nodes)
        inner = left + BAND + GAP / 2
        return cls(left, top, BAND + high - low + GAP, inner - low)


def legend(left: float, top: float) -> list[str]:
    """Say what widths and colours mean."""
    few, many = (f"{limit:,}" for limit, _ in WIDTHS[:-1])
    keys = [
        *zip(
            [60 + wider for _, wider in WIDTHS],
            ["core"] * len(WIDTHS),
            [f"at most {few} lines", f"at most {many}", "more"],
            strict=True,
        ),
        (76, "face", "a face"),
        (76, "dialect", "a dialect"),
    ]
    parts = []
    for number, (width, style, words) in enumerate(keys):
        y = top + number * (BOX + 8)
        parts.append(rectangle(left, y, width, BOX, style))
        parts.append(text(left + width + 10, y + BOX / 2 + 4, words, "key"))
    return parts


def panel_of(graph: grimp.ImportGraph, title: str, rows: list[list[str]]) -> Panel:
    """Make a panel of those boxes that import one another at all."""
    names = [name for row in rows for name in row if name in graph.modules]
    arrows = imports_between(graph, names)
    joined = {name for arrow in arrows for name in arrow}
    kept = [[name for name in row if name in joined] for row in rows]
    lines = {name: count_lines(name) for name in joined}
    return Panel(title, split_rows(filter(None, kept), arrows), without_implied(arrows), lines)


def draw() -> str:
    """Make the drawing as SVG."""
    if str(ROOT) not in sys.path:  # grimp finds packages as imports would
        sys.path.insert(0, str(ROOT))
    graph = grimp.build_graph("apps", "evalplatform", cache_dir=None)
    dialects = law("evalplatform.dialects")
    faces: list[list[str]] = []
    for row in law("evalplatform"):
        faces += dialects if row == ["evalplatform.dialects"] else [row]
    *core, ground = law("apps")
    whole = panel_of(graph, "The import law", [*faces, *core])
    inner = panel_of(graph, "Inside evaluations", law("apps.evaluations"))

    top = 74
    grid, inner_grid = place(whole), place(inner)
    frame = Frame.around(grid, MARGIN, top)
    inner_frame = Frame.around(inner_grid, frame.left + frame.width + MARGIN, top)
    core_from = min(number for number, row in enumerate(whole.rows) if row[0].startswith("apps."))
    plate_y = top + len(grid) * ROW
    width = inner_frame.left + inner_frame.width + MARGIN
    height = plate_y + BOX + 2 * MARGIN
    names = "  ".join(shown(name) for name in ground if name in graph.modules)
    parts = [
        rectangle(0, 0, width, height, "back"),
        text(frame.left + frame.width / 2, 28, whole.title, "title"),
        text(
            frame.left + frame.width / 2,
            46,
            "An arrow points to what is imported; one that follows from others is left out.",
            "note",
        ),
        text(inner_frame.left + inner_frame.width / 2, 28, inner.title, "title"),
        text(
            inner_frame.left + inner_frame.width / 2, 46, "the largest package of the core", "note"
        ),
        *band(grid, range(core_from), "evalplatform: the faces", frame),
        *band(grid, range(core_from, len(grid)), "apps: the core", frame),
        *band(inner_grid, range(len(inner_grid)), "apps.evaluations", inner_frame),
        *draw_panel(grid, frame.middle, top),
        *draw_panel(inner_grid, inner_frame.middle, top),
        *legend(inner_frame.left + BAND, top + (len(inner_grid) + 1) * ROW),
        rectangle(frame.left, plate_y, frame.width, BOX + MARGIN, "ground"),
        text(frame.left + frame.width / 2, plate_y + 18, names),
        text(
            frame.left + frame.width / 2,
            plate_y + 34,
            "the ground in apps: all above may import it, and do",
            "note",
        ),
    ]
    marker = (
        '<defs><marker id="head" viewBox="0 0 8 8" refX="5" refY="4" markerWidth="7"'
        ' markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" class="head"/></marker></defs>'
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}"'
            f' width="{width:.0f}" height="{height:.0f}" role="img">',
            "<title>The packages of Evalplatform in the layers of its import law</title>",
            f"<style>{STYLE}</style>",
            marker,
            *parts,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    DRAWING.write_text(draw(), encoding="utf-8")
