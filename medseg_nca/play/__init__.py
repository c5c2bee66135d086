"""An automaton that runs live on a page, where a person paints damage and watches it heal."""
