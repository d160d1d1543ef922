"""The components of the web page: fixed pieces of HTML, which the scripts in `ui/web/static` fill."""
