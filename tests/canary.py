"""What hostile files carry in tests."""

from pathlib import Path


class Bomb:
    """Unpickling it writes the canary."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return (self.canary.write_text, ("fired",))


def code(canary: Path) -> str:
    """A module that writes the canary when it is imported."""
    return f"open({str(canary)!r}, 'w').write('fired')\nclass Evil: pass\n"
