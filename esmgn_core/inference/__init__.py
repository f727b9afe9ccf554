"""Trained or published encoders put to use: embeddings, neighbours, scores of mutations, predictions."""
