"""Jobs of the web page: files to add and documents to edit or remove, in a table that survives a restart."""
