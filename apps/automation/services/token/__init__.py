"""One module for each name of the older documents. Nothing here decides: it translates."""
