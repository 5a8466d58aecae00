"""The engine: request lines in, frames out, many in flight. Read ``serve`` first."""
