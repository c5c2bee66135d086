"""The recipe: what nobody set, decided from the data, the minutes and the machine."""
