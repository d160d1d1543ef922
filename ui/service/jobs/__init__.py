"""What the page was asked to add, change or remove: a list that outlives the server, and its thread."""
