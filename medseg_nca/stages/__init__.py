"""An automaton at work, a step at a time: what films and the live page show of any model."""
