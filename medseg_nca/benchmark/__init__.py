"""Speed and memory: engines against each other, textbook code, and what the machine can do."""
