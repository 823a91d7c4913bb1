"""Why debiasing is lost: what happens inside the models of a finished run."""
