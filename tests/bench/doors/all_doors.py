"""Every door, in the order of the table."""

from . import of_commands, of_graphs, of_mlx, of_torch

DOORS = (*of_torch.DOORS, *of_mlx.DOORS, *of_graphs.DOORS, *of_commands.DOORS)
