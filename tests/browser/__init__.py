"""The page of `dalle serve` and `dalle gallery`, in Chromium and with real servers."""
