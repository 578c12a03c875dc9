"""Claims about distillation, tested: each has an experiment, effects with bands, and a verdict.

    labkit.claims()                       # every claim with its verdict; labkit.claims("online cost") is one of them
    CLAIMS["online"].measure().effects    # {"random start, equal questions": Band(...), ...}

`judge` computes the verdicts from the records and measurements that ship with the lab. One is read, not computed: that of "heads", whose
answers are written by hand, from the published trainers that it cites. To add a claim, write a function that returns a `ClaimFinding`: by
condition, a band of differences that are above 0 where the claim holds. If the sentence that was tested is another than the claim's, say
`tested=` it, and `fits=False` if a yes to the one is no yes to the other, as where the claim speaks of a cost that was not tested.
"""

from labkit.studies.claims.data import ARMS, STARTS, cost_ratio, ladder, runs_of, seconds_a_step
from labkit.studies.claims.verdicts import CLAIMS, TRIED, Claim, ClaimFinding, Claims, claim, claims, judge, tried
from labkit.tasks.atlas.questions import ONE_ANSWER
