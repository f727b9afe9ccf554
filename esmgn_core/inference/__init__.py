"""Use of trained encoders: embeddings, nearest proteins, scores of mutations, predictions."""
