"""Which known mistake makes the values that a dump has; and which mistakes it could not have shown."""
