"""The vision tower of an mmproj file beside a text model."""

from ref.weights.resolve import load


def see(path, text):
    vision = load(text, mmproj=str(path)).vision
    assert vision
    return vision
