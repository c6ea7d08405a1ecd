"""Prompt rewriting, as DALL·E 3 did it: a language model says what somebody asked for in words that paint better."""
