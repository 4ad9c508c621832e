"""AEM on models that are not ours: attention logits by a hook or as returned, and of torchmil's models."""

from entroreg.vision.mil.adapters.rows import attention_rows
from entroreg.vision.mil.adapters.tap import AttentionTap
from entroreg.vision.mil.adapters.torchmil import torchmil_attention_logits

__all__ = ["AttentionTap", "attention_rows", "torchmil_attention_logits"]
