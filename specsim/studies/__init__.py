"""Studies: figures that other people measured on GPUs, one file a study, predicted row by row.

A study is ``NAME.yaml``, which says where the figures are from and what scenario they were measured in, and
``NAME.csv``, one row a measured condition: its split, what it sets in the scenario, and the figures.
"""
