"""TextCraft: craft an item from recipes."""
