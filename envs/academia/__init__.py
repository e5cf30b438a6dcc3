"""Academia: questions about papers and their authors, answered with a citation network."""
