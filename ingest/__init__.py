"""Documents in, pages out: discover, rasterize, read, embed, write, and say what happened."""

from configs.privacy import switch_off_reports

switch_off_reports()
