"""The limits of not forgetting (the paper, section 3): repeating a sequence."""
