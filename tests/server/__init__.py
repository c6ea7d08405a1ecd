"""Tests of `dalle serve`."""
