"""The page for people: its files, and a made-up image to try it with."""
