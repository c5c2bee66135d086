"""Who may do what: users, tokens, the limit of logins, where the server may listen."""
