"""A check: do the treated answers say that they come from a language model more often than those of the control do?"""

from counterclaim import Evidence, Finding, Outcome, check

PHRASE = "as a language model"


@check(
    "self-mention",
    group="cost",
    question="Do treated answers mention that a language model wrote them?",
    must_fail=("underpowered",),
    must_pass=("clean",),
)
def self_mention(evidence: Evidence) -> Finding:
    """Fails where more than one treated answer in a hundred does so, and leaves fewer than fifty answers undecided."""
    answers = evidence.pair[1].responses if len(evidence.pair) == 2 else ()
    texts = [response.text for response in answers if response.text is not None]
    if len(texts) < 50:
        return Finding(
            Outcome.INCONCLUSIVE, f"Only {len(texts)} treated answers have a text.", "Answer at least 50 prompts."
        )
    share = sum(PHRASE in text.lower() for text in texts) / len(texts)
    because = f"{share:.0%} of {len(texts)} treated answers say “{PHRASE}”."
    if share > 0.01:
        return Finding(Outcome.FAIL, because, "Look for such answers in the training data.", n=len(texts))
    return Finding(Outcome.PASS, because, n=len(texts))
