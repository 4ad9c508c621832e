"""AEM on models that are not ours: attention logits by a hook, and of torchmil's models."""

from entroreg.vision.mil.adapters.tap import AttentionTap
from entroreg.vision.mil.adapters.torchmil import torchmil_attention_logits

__all__ = ["AttentionTap", "torchmil_attention_logits"]
