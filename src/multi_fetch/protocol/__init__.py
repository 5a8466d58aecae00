"""The wire, both ways, without I/O: request lines in, frames out. protocol.md is its text."""
