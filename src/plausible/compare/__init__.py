"""Compare learning rules: paired seeds, equal tuning budgets, statistics, cost.

``comparison`` says what is compared, ``execute`` runs it, ``cost`` times a step, ``tune`` searches settings and
``settings`` keeps them, ``statistics`` judges. Nothing is imported here: a report needs statistics, but not torch.
"""
