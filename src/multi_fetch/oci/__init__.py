"""The nouns of the OCI specifications, without I/O: reference, digest, descriptor, media types."""
