"""Words from page images, behind one protocol."""
