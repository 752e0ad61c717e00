"""One experiment a paper: the claim, its arms, and what the interval over seeds says of it."""

from autodidact.claims.claim import Claim, Statement
from autodidact.claims.engine import NAMES, claim_named, freeze, run_claim, run_claims

__all__ = ["NAMES", "Claim", "Statement", "claim_named", "freeze", "run_claim", "run_claims"]
