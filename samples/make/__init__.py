"""Makes every document in `samples/pdfs/`: run `python -m samples.make` in the repository root."""
