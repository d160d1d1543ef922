"""What the web page, REST and MCP share: one library, one queue, jobs, judgements. Nothing here prints or draws."""
