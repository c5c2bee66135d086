"""Networks other than automata, for baselines: one module each, which defines ``build``."""
