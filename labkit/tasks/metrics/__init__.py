"""Metrics: scores of answers against custom references, with bands over prompts, so that two sets of answers can be compared.

    score = metric("exact")                      # or "regex:^[A-Z]", "schema:order.schema.json", "judge.py:polite"
    before, after = score(answers, rows), score(other_answers, rows)
    before.mean, before.band                     # the mean over all rows, and its 95% band
    better(after, before)                        # the paired difference, with its band and verdict

To add a metric, decorate a function with `register`. It returns some numbers for each row. These are summed over rows, and `overall`
computes the score from the sums. That is exact for means and for macro F1, and cheap for resampled rows.
"""

from labkit.tasks.metrics.registry import METRICS, Kind, Metric, Score, better, metric
