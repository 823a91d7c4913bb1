"""NLI that trusts negation: MultiNLI in groups label x negation (Sagawa et al. 2020)."""
