"""One module per document; each has `write(folder)`, which returns the file that it wrote."""
