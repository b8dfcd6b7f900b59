"""The jobs of other implementations, each in their own Python: nothing here imports `ref`."""
