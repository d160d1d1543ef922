"""Makes the model that the ingest ships: the quantized line recogniser of its OCR."""
