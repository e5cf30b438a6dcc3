"""Wordle: find a hidden five-letter word."""
