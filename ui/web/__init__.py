"""The server, its authentication, and the web page."""
