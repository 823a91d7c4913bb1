"""The regression gate around `harness_plugin.gate`: what it reads, writes, and offers to pytest."""
