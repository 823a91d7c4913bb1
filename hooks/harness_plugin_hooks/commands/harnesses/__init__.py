"""From other harnesses: lm-evaluation-harness and evaluate."""
