"""The networks, as pure modules: tensors in, tensors out; no files, no schedules, no devices.

Attribute names are the keys on disk (the layout that diffusers and transformers publish), so a
published folder loads strictly and unrenamed. The beauty of these files is in `forward`.

Dimension letters: b pictures, c channels, h w height and width, n tokens, d width of a token.
"""
