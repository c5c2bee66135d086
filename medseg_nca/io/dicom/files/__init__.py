"""One file: found, told from others, checked and parsed, before any pixel is decoded."""
