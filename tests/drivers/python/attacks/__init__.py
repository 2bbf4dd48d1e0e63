"""One app against another's documents, through raw commands and raw messages."""
