"""How work is spread over processes, and how what is finished is kept."""
