"""The parts of the web page: what each shows (Python, plain values) and how it is drawn (`ui/static`)."""

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read at the first import of gradio
