"""The command line: arguments, exit codes, human output."""
