"""`mambasdk medical`: plan, preprocess, train, predict, evaluate, import."""
