"""Sub-commands of `harness`, one a module: `parser()` is its command line, `main` runs it."""
