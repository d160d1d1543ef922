"""Reads the words of page images (OCR): two engines behind one protocol."""
