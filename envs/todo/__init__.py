"""Todo: answer questions about a to-do list, or change it, by calling tools."""
