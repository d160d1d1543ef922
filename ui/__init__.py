"""What a person or a program touches: the command line and the web page."""

from configs.privacy import switch_off_reports

switch_off_reports()
