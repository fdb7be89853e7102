"""From a proposal to an applied entry, on disk and on the wire."""
