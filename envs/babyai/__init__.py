"""BabyAI: language goals in a grid world, played with text macro actions."""
