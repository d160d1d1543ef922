"""REST under `/api/v1`: everything that the page can do, for programs; described at `/api/v1/openapi.json`."""
