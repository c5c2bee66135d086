"""Search for settings: what is searched, what a study is, and how workers share its trials."""
