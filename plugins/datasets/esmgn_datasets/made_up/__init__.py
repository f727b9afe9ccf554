"""Made-up proteins: geometry and statistics, no experimental content.

In the order of the work: ``backbone`` turns torsions into atoms, ``contacts`` says how close atoms
may come, ``elements`` places helices and strands, ``folds`` decides which ones and where, ``loops``
closes the gaps between them from a ``library``, ``joining`` chooses loops that touch nothing,
``assembly`` threads everything into one chain, and ``sequences`` draws residue types to match.
"""
