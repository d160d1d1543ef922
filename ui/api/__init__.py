"""REST, MCP, exports, and the shapes in which they answer."""
