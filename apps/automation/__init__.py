"""The names that older documents use, as doors to the services that do the work."""
