"""What stands where there is nothing to draw."""

from api.drawing.frame import Frame
from api.drawing.svg import Svg


def draw_absence(words: str, frame: Frame) -> bytes:
    """A picture of the same size that says what there is none of."""
    svg = Svg(frame.width, frame.height, words, frame.colours.background)
    size = min(14.0, frame.width / (0.6 * len(words)))
    svg.text(
        (frame.width / 2, frame.height / 2 + size / 3),
        words,
        text_anchor="middle",
        font_size=size,
        fill=frame.colours.muted,
    )
    return svg.encode()
