"""The pictures of these pages: ``python docs/figures.py`` draws them from predictions that it makes."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

import specsim
from specsim.analytic.speedups import SpeedupMap

IMAGES = Path(__file__).parent / "images"
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CELL_WIDTH, CELL_HEIGHT, LEFT, TOP = 78, 30, 92, 74
FONT = 'font-family="Helvetica, Arial, sans-serif"'


def map_picture() -> str:
    """EAGLE-3 on Llama-3.1-8B, as the quickstart asks it."""
    found = specsim.predict(model="llama-3.1-8b", gpu="h100", drafter="eagle-3", draft_tokens=5, batches=BATCHES)
    return heat_map(found.map, "Llama-3.1-8B on an H100, EAGLE-3: output tokens/s over no drafter")


def heat_map(speedups: SpeedupMap, title: str) -> str:
    """Batch sizes downwards, draft lengths to the right; the number in each cell, the best of a row outlined."""
    batches, lengths = speedups.batches, sorted({cell.draft_tokens for cell in speedups.cells})
    width, height = LEFT + CELL_WIDTH * len(lengths) + 20, TOP + CELL_HEIGHT * len(batches) + 34
    best = {one.batch: one.draft_tokens for one in speedups.best()}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(title)}">',
        f'<rect width="{width}" height="{height}" rx="8" fill="#ffffff"/>',
        _label(LEFT - 76, 30, title, size=15, anchor="start"),
        *(_label(_x(i) + CELL_WIDTH / 2, TOP - 12, f"k={k}") for i, k in enumerate(lengths)),
        *(_label(LEFT - 14, _y(i) + 20, str(batch), anchor="end") for i, batch in enumerate(batches)),
        _label(LEFT - 76, TOP - 12, "batch", anchor="start"),
        _label(LEFT, height - 12, "k: tokens drafted a round; outlined: the best of each batch size", anchor="start"),
    ]
    for row, batch in enumerate(batches):
        for column, k in enumerate(lengths):
            gain = speedups.cell(batch, k).speedup
            edge = '#111111" stroke-width="2.5' if best[batch] == k else "none"
            parts.append(
                f'<rect x="{_x(column) + 1.5}" y="{_y(row) + 1.5}" width="{CELL_WIDTH - 3}" '
                f'height="{CELL_HEIGHT - 3}" rx="3" fill="{_colour(gain)}" stroke="{edge}"/>'
            )
            parts.append(_label(_x(column) + CELL_WIDTH / 2, _y(row) + 20, f"{gain:.2f}"))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _x(column: int) -> int:
    return LEFT + CELL_WIDTH * column


def _y(row: int) -> int:
    return TOP + CELL_HEIGHT * row


def _label(x: float, y: float, text: str, *, size: int = 13, anchor: str = "middle") -> str:
    style = f'font-size="{size}" text-anchor="{anchor}" fill="#1f2328"'
    return f'<text x="{x:g}" y="{y:g}" {FONT} {style}>{escape(text)}</text>'


def _colour(gain: float) -> str:
    """White at 1; towards blue as it wins, up to 2.5, towards orange as it loses; dark text reads on all."""
    share = min(1.0, max(0.0, (gain - 1.0) / 1.5 if gain >= 1.0 else (1.0 - gain) / 0.5))
    end = (116, 173, 230) if gain >= 1.0 else (244, 165, 96)
    return "#" + "".join(f"{round(255 + (one - 255) * share):02x}" for one in end)


PICTURES = {"map.svg": map_picture}

if __name__ == "__main__":
    for name, picture in PICTURES.items():
        (IMAGES / name).write_text(picture(), encoding="utf-8")
