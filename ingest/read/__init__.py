"""Reads the words of a page, from its text layer or by OCR, and the title of a document."""
