"""How people and programs use Folioscope: the command line, the web page, REST, MCP, and `open_index` for Python."""

from configs.privacy import switch_off_reports
from ui.api.python import OpenIndex, open_index

switch_off_reports()

__all__ = ["OpenIndex", "open_index"]
