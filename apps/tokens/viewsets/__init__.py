"""The REST face: translates, and leaves the deciding to the services."""
