"""NLI read off the hypothesis: original pairs, and pairs with either sentence revised."""
