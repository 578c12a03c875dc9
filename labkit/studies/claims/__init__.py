"""What is said of distillation, put to the test: each claim has its experiment, an effect with its band, and a verdict.

    labkit.claims()                       # the table: claim, Atlas, SmolLM2, published
    CLAIMS["online"].measure().effects    # {"random start, equal questions": Band(...), ...}

Verdicts are worked out from the records and measurements that ship with the lab, by `judge`; none is typed. To add a claim,
write a function that returns the effects it would have, each as a band of differences that are above 0 where the claim holds.
"""

from labkit.studies.claims.data import ARMS, STARTS, cost_ratio, ladder, runs_of, seconds_a_step
from labkit.studies.claims.verdicts import CLAIMS, TRIED, Claim, ClaimFinding, Claims, claim, claims, judge, tried
from labkit.tasks.atlas.questions import ONE_ANSWER
