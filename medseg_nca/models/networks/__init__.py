"""Networks that are no automata: one module each, with ``build(settings)``."""
