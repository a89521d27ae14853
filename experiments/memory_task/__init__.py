"""The limits of not forgetting (the paper, section 4): repeating a sequence."""
