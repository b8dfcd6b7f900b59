"""The judge: dumps, measures, noise floors, verdicts."""
