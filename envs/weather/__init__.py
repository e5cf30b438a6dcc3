"""Weather: questions about places and days, answered with a weather service."""
