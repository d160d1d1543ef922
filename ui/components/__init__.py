"""The parts of the web page: fixed pieces of HTML, which the scripts in `ui/static` fill."""

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read at the first import of gradio
