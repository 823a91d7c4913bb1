"""What the tasks on counterfactually augmented data share (Kaushik et al. 2020)."""
