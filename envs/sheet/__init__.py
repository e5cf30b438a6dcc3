"""Sheet: bring a worksheet into the state that a goal describes, by calling tools."""
