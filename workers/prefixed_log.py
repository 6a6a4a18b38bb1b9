"""What services print, on standard output with their names before it, whether or not anybody reads that."""

import os
from select import select
from threading import Condition, Thread
from typing import Final

_STANDARD_OUTPUT: Final = 1
_COLOURS: Final = ("36", "33", "32", "35", "34")
_KEPT_CHARACTERS: Final = 1 << 20  # that wait for a reader: thousands of lines


class PrefixedLog:
    """Lines with their service's name before them, in colour on a terminal.

    A thread writes them: a terminal that is held (Ctrl-S) or a pipe that nobody reads makes nobody wait. What comes
    when too much waits already is left out, and counted where it is missing.
    """

    def __init__(self, width: int = 9) -> None:
        self._width = width
        self._coloured = os.isatty(_STANDARD_OUTPUT)
        self._colours: dict[str, str] = {}
        self._changed = Condition()
        self._lines: list[str] = []
        self._kept = 0  # characters
        self._left_out = 0  # lines
        self._written = True
        Thread(target=self._write_for_ever, daemon=True).start()

    def __call__(self, name: str, text: str) -> None:
        """Hand a line over, without its end."""
        line = self._line(name, text)
        with self._changed:
            if self._kept >= _KEPT_CHARACTERS:
                self._left_out += 1
            else:
                self._lines.append(line)
                self._kept += len(line)
            self._written = False
            self._changed.notify_all()

    def flush(self, seconds: float = 1.0) -> None:
        """Wait until all is written, for so long at most."""
        with self._changed:
            self._changed.wait_for(lambda: self._written, seconds)

    def _line(self, name: str, text: str) -> str:
        if not self._coloured:
            return f"{name:>{self._width}} | {text}\n"
        colour = self._colours.setdefault(name, _COLOURS[len(self._colours) % len(_COLOURS)])
        return f"\x1b[{colour}m{name:>{self._width}} |\x1b[0m {text}\n"

    def _write_for_ever(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines or self._left_out)
                lines, left_out = self._lines, self._left_out
                self._lines, self._kept, self._left_out = [], 0, 0
            if left_out:
                lines.append(self._line("cairn", f"{left_out} lines were left out here: nobody read them in time"))
            _write("".join(lines).encode(errors="replace"))
            with self._changed:
                self._written = not self._lines and not self._left_out
                self._changed.notify_all()


def _write(told: bytes) -> None:
    """Not by `sys.stdout`: its buffer would be waited for when the process ends."""
    while told:
        try:
            told = told[os.write(_STANDARD_OUTPUT, told) :]
        except BlockingIOError:  # somebody who has it too made it so
            select([], [_STANDARD_OUTPUT], [])
        except OSError:  # nobody will read any more: the terminal or the pipe is closed
            return
