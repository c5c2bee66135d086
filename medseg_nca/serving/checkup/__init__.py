"""Examine the set-up of a server without starting it, and say what to mend."""
