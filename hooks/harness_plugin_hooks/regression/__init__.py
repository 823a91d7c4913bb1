"""The regression gate around `scoring.gate`: what it reads, writes, and offers to pytest."""
