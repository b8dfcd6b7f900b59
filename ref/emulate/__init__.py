"""The model as others round it: a graph of taps, run in any arithmetic, in any order of sums."""
