"""The command line: one file a group, thin over the pipelines."""
