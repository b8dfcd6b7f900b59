"""Every case, by name: the files of cases register theirs when they are imported."""

from . import attending, caches, formats, orders, parts, rotation, scales, tensors
from .case import CASES as CASES

FILES = (attending, caches, formats, orders, parts, rotation, scales, tensors)
