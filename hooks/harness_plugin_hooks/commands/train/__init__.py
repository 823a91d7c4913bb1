"""Plan, train and look after: data, runs, studies, remedies, the store."""
