"""Settings: an automaton, and a run."""
