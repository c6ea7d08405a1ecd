"""The networks, as pure modules: tensors in, tensors out; no files, no schedules, no devices.

Attribute names are the keys on disk (the layout that diffusers and transformers publish), so a
published folder loads strictly and nothing is renamed.

Shapes are written as [b c h w]: b pictures, c channels, h and w height and width, n tokens, d the width of a token.
"""
