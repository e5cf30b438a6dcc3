"""Movie: questions about films and the people who made them, answered with a film database."""
