"""Reading the history."""
