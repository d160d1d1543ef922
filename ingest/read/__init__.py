"""The words of a page: its text layer where that is sane, else OCR."""
