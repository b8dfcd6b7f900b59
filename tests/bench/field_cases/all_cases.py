"""Every case and twin, by name: the files register theirs when they are imported."""

from . import attending, caches, formats, orders, parts, rotation, scales, tensors, twins_folded
from .case import CASES as CASES
from .twins import TWINS as TWINS

FILES = (attending, caches, formats, orders, parts, rotation, scales, tensors, twins_folded)
