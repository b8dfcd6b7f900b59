"""How far a tap may move and be the same: alone in its file, since help says it before anything is loaded."""

NOISE = (
    0.5  # floors that taps of a correct port move by on another machine, with room: docs/many-dumps.md has the figures
)
