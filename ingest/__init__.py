"""Documents in, pages out: discover, rasterize, read, embed, write, and say what happened."""
