"""The experiments of the papers, as far as they can be made with models that paint and a CLIP. No torch here."""
