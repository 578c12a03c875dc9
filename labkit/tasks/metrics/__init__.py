"""Scores of answers against a learner's own references, with bands over rows, so that a before and after can be told apart.

    score = metric("exact")                      # or "regex:^[A-Z]", "schema:order.schema.json", "judge.py:polite"
    before, after = score(answers, rows), score(other_answers, rows)
    before.mean, before.band                     # of all rows, and its 95% band
    better(after, before)                        # the paired difference, with its band and verdict

To add one, decorate a function with `register`: it gives each row some numbers, which are added up over rows; `overall` makes the
score of the sums. Exact for means and for macro F1 alike, and cheap to repeat on resampled rows.
"""

from labkit.tasks.metrics.registry import METRICS, Kind, Metric, Score, better, metric
