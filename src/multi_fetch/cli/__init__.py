"""The commands: argv and environment to objects, failures to exit codes. The only wiring."""
