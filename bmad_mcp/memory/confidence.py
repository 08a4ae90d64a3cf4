"""How sure a memory is, from what was said of it and what happened to it since."""

import math

HUMAN_SHARE = 0.25
DOUBT_LEFT = 0.7
MOST_CONFIRMED = 5
HALF_LIFE_DAYS = 180.0
AGED_SHARE = 0.4


def confidence_of(stated: float, author_kind: str, confirmed: int, days: float) -> float:
    """The confidence to show, from 0 to 1, in hundredths.

    - A new memory of an agent is as sure as the agent said.
    - What a human stored is a quarter less doubtful.
    - Each time an equal text was stored again takes away 30 % of the doubt that is left, five times at most: more
      would let a loop that stores the same text over and over make anything certain.
    - Age takes up to 40 % away: half of that after 180 days, three quarters after 360. It never takes more, since an
      old fact is doubtful and not false.
    """
    doubt = 1.0 - min(max(stated, 0.0), 1.0)
    if author_kind == "human":
        doubt *= 1.0 - HUMAN_SHARE
    doubt *= math.pow(DOUBT_LEFT, min(max(confirmed, 0), MOST_CONFIRMED))
    fresh = math.pow(0.5, max(days, 0.0) / HALF_LIFE_DAYS)
    return round((1.0 - doubt) * (1.0 - AGED_SHARE * (1.0 - fresh)), 2)
