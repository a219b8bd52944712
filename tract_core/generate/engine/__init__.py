"""What samples CoTs and reads score probabilities: one small protocol, two back ends.

`vllm` is the fast one; `transformers` is the fallback and the reference that vLLM is tested against.
Both take token ids and give token ids, so that the text of a prompt is encoded in one place only.
"""

from tract_core.generate.engine.base import Decoding, Engine, Request, Sample, ScoreProbs, failure
from tract_core.generate.engine.opening import engines_of, open_engine

__all__ = ["Decoding", "Engine", "Request", "Sample", "ScoreProbs", "engines_of", "failure", "open_engine"]
