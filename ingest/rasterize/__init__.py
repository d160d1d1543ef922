"""Documents to page images: PyMuPDF, poppler, Pillow."""
