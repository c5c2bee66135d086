"""Jobs of the service: kept in SQLite and a folder, queued, handed to workers, watched."""
