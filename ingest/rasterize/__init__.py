"""Rasterizes documents into page images with PyMuPDF, poppler and Pillow."""
