"""Fuzzing: inputs that are nearly valid, for the protocol and everything that reads a file."""
