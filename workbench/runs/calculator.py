"""Parameters and training FLOPs of an architecture, in every counting convention that papers use.

Nothing is built and torch is not imported: counts follow from a few whole numbers. `Architecture.from_config`
takes them from the configuration of a training framework (`workbench.runs.frameworks`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any

from workbench.units import FLOPS_PER_PARAM_TOKEN

__all__ = ["BIASES", "KINDS", "NORMS", "QK_NORMS", "Architecture"]

KINDS = ("decoder", "encoder", "mlp")
#: Norm -> trained vectors it has: LayerNorm a gain and a bias, RMSNorm a gain.
NORMS = {"layer": 2, "rms": 1, "gain": 1, "none": 0}
#: Norms of queries and keys: none, one of a head's width shared by all heads, or one of all heads' width.
QK_NORMS = ("none", "head", "width")
#: Linear maps that may have a bias.
BIASES = ("qkv", "out", "ffn", "head", "hidden")
_EVERY_BIAS = ("qkv", "out", "ffn", "hidden")


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What fixes the number of parameters and of operations of a model.

    Attributes:
        kind: ``decoder`` or ``encoder``, a transformer; ``mlp``, hidden layers of `width` units.
        layers: transformer blocks; hidden layers of an MLP.
        width: of the residual stream, d.
        heads: query heads.
        kv_heads: heads of keys and values; as many as `heads` unless given, 1 for multi-query attention.
        head_dim: width of a head; width / heads unless given.
        ffn: hidden units of a block's MLP; 4 widths unless given.
        gated: the MLP has a gate: three matrices (SwiGLU, GEGLU; Shazeer 2020, arXiv 2002.05202), not two.
        vocab: rows of the embedding, padding included; None if it is not known.
        positions: learned position embeddings, 0 for rotary, ALiBi and none; None if it is not known.
        segments: learned segment embeddings (BERT: 2).
        head: there is a vocabulary head; a decoder has one and an encoder none unless said.
        tied: the head is the embedding transposed, not a matrix of its own.
        head_layer: a d x d layer with bias and a norm before the head (BERT's for masked tokens).
        bias: True for every linear map but the head, or names of `BIASES`: ``("qkv",)`` is Qwen2.
        norm: ``layer`` (gain and bias), ``rms`` or ``gain`` (gain only), ``none`` (nothing trained).
        norms: norms of a block: 2, or 1 where attention and MLP share one, or 4 with norms after both too.
        final_norm: a norm after the last block.
        embedding_norm: a norm after the embedding.
        qk_norm: ``none``, ``head`` (Qwen3) or ``width`` (OLMo 2).
        experts: expert MLPs of a block, 0 without; a router of d x experts weights chooses.
        experts_per_token: experts that one token meets.
        expert_ffn: hidden units of one expert; `ffn` unless given.
        shared_experts: experts of the same size that every token meets besides.
        dense_layers: blocks that have one MLP of `ffn` units in the place of experts.
        pooler: a d x d layer with bias on the first position (BERT).
        inputs, outputs: of an MLP.

    Raises:
        ValueError: a number is none that can be, or numbers do not fit each other.
    """

    kind: str = "decoder"
    layers: int
    width: int
    heads: int | None = None
    kv_heads: int | None = None
    head_dim: int | None = None
    ffn: int | None = None
    gated: bool = False
    vocab: int | None = None
    positions: int | None = 0
    segments: int = 0
    head: bool | None = None
    tied: bool = True
    head_layer: bool = False
    bias: bool | Iterable[str] = False
    norm: str = "rms"
    norms: int = 2
    final_norm: bool = True
    embedding_norm: bool = False
    qk_norm: str = "none"
    experts: int = 0
    experts_per_token: int = 0
    expert_ffn: int | None = None
    shared_experts: int = 0
    dense_layers: int = 0
    pooler: bool = False
    inputs: int | None = None
    outputs: int | None = None

    def __post_init__(self) -> None:
        for name, allowed in (("kind", KINDS), ("norm", NORMS), ("qk_norm", QK_NORMS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r} is not known; choose one of {', '.join(allowed)}.")
        bias = _EVERY_BIAS if self.bias is True else () if self.bias is False else self.bias
        if isinstance(bias, str) or not set(bias) <= set(BIASES):
            raise ValueError(f"bias={self.bias!r} is neither True, False nor some of {', '.join(BIASES)}.")
        self._set(bias=tuple(b for b in BIASES if b in set(bias)))
        self._check_numbers()
        if self.kind == "mlp":
            if self.inputs is None or self.outputs is None:
                raise ValueError("an MLP needs inputs= and outputs=, the sizes of its first and its last layer.")
            return
        if self.heads is None:
            raise ValueError(f"kind={self.kind!r} needs heads=, the number of attention heads.")
        if self.head_dim is None and self.width % self.heads:
            raise ValueError(f"width={self.width} is not a multiple of heads={self.heads}; give head_dim= too.")
        self._set(
            kv_heads=self.kv_heads or self.heads,
            head_dim=self.head_dim or self.width // self.heads,
            ffn=self.ffn or 4 * self.width,
            head=self.kind == "decoder" if self.head is None else self.head,
        )
        self._set(expert_ffn=self.expert_ffn or self.ffn)
        if self.heads % self.kv_heads:
            raise ValueError(f"kv_heads={self.kv_heads} must divide heads={self.heads}: heads share keys in groups.")
        if self.experts and not 1 <= self.experts_per_token <= self.experts:
            raise ValueError(
                f"experts_per_token={self.experts_per_token} must be from 1 to experts={self.experts}: "
                "the experts that one token meets."
            )
        if self.dense_layers > self.layers:
            raise ValueError(f"dense_layers={self.dense_layers} is more than layers={self.layers}.")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Architecture:
        """The architecture that the configuration of a known framework describes.

        Args:
            config: keys and values, nested or with dotted keys: a Hugging Face ``config.json``, Megatron's
                arguments, nanoGPT's, litgpt's, levanter's or OLMo's configuration.

        Raises:
            ValueError: no known framework writes such keys, or they do not fix the architecture.
        """
        from workbench.runs.frameworks import describe

        return describe(config)

    def params(self, embeddings: bool = True, active: bool = False) -> int:
        """Trained parameters: matrices, biases and norms.

        Args:
            embeddings: with token, position and segment embeddings and the vocabulary head. Without them the count
                is the N of Kaplan et al. 2020 (arXiv 2001.08361, table 1: 2 d L (2 d_attn + d_ff), biases and norms
                left out there); with them that of Hoffmann et al. 2022 (arXiv 2203.15556).
            active: of experts only those that one token meets.

        Raises:
            ValueError: embeddings are asked for and `vocab` or `positions` is not known.
        """
        parts = self.parts(active)
        if not embeddings:
            return sum(size for name, size in parts.items() if name not in _EMBEDDINGS)
        for name in ("vocab", "positions"):
            if getattr(self, name) is None and self.kind != "mlp":
                raise ValueError(f"{name} of this architecture is not known; give it, or count with embeddings=False.")
        return sum(parts.values())

    def parts(self, active: bool = False) -> dict[str, int]:
        """Parameters of each part: embedding, positions, head, attention, ffn, router, norms, pooler; 0 if unknown."""
        if self.kind == "mlp":
            maps = self._mlp_maps()
            vectors = sum(b for _, b in maps[:-1]) if "hidden" in self.bias else 0
            return {"ffn": sum(a * b for a, b in maps) + vectors + (maps[-1][1] if "head" in self.bias else 0)}
        d, c, gain = self.width, self.head_dim, NORMS[self.norm]
        query, keys = self.heads * c, self.kv_heads * c
        attention = self._attention_matrices()
        attention += (query + 2 * keys if "qkv" in self.bias else 0) + (d if "out" in self.bias else 0)
        qk = {"none": 0, "head": 2 * c, "width": query + keys}[self.qk_norm] * min(gain, 1)
        chosen = (self.experts_per_token if active else self.experts) + self.shared_experts
        sparse = self.layers - self.dense_layers if self.experts else 0
        dense = self.layers - sparse
        norms = self.layers * self.norms + self.final_norm + self.embedding_norm + self.head_layer
        vocab = self.vocab or 0
        return {
            "embedding": vocab * d,
            "positions": ((self.positions or 0) + self.segments) * d,
            "head": (0 if self.tied or not self.head else vocab * d) + (vocab if "head" in self.bias else 0),
            "attention": self.layers * attention,
            "ffn": dense * self._ffn(self.ffn) + sparse * chosen * self._ffn(self.expert_ffn),
            "router": sparse * d * self.experts,
            "norms": norms * gain * d + self.layers * qk,
            "pooler": (d * d + d) * (self.pooler + self.head_layer),
        }

    def flops_per_token(
        self,
        sequence_length: int | None = None,
        *,
        exact: bool = True,
        attention: bool | None = None,
        embeddings: bool = True,
        causal: bool = False,
        training: bool = True,
    ) -> float:
        """FLOPs for each token (for each example, of an MLP): a multiplication and an addition are two.

        Exact, every matrix product is counted and nothing else: 2 FLOPs a weight that a token meets and 4 h c T a
        block for the scores and what they weigh (T keys, h heads of width c), twice that again in the backward pass.
        For GPT models that is eq. 3 of Narayanan et al. 2021 (arXiv 2104.04473) without its recomputed forward pass.
        Looking an embedding up costs nothing; a pooler works once a sequence and is left out.

        Not exact, it is 6 N for training and 2 N forward, N the active parameters; with ``attention=True`` plus
        12 L h c T, which is appendix B of Chowdhery et al. 2022 (PaLM, arXiv 2204.02311).

        Args:
            sequence_length: T; needed where attention counts.
            exact: count products, not parameters.
            attention: the products of queries, keys and values; unless given, where `exact` is.
            embeddings: with the vocabulary head (exact), or all embedding parameters (6 N).
            causal: a position meets the (T + 1) / 2 keys that it sees on average, not all T: what a kernel that
                skips the masked half does. Kaplan et al. 2020 (table 1) count 2 L T d_attn forward, T / 2 keys.
            training: forward and backward pass, not the forward pass alone.

        Raises:
            ValueError: attention counts and `sequence_length` is missing, or `vocab` is needed and not known.
        """
        attention = exact if attention is None else attention
        if self.kind == "mlp":
            return self._mlp_flops(exact, training)
        passes = 3.0 if training else 1.0
        if exact:
            weights = self._matrices() + (self._head() if embeddings else 0)
        else:
            weights = self.params(embeddings, active=True)
        flops = passes * (FLOPS_PER_PARAM_TOKEN / 3.0) * weights
        if not attention:
            return flops
        if sequence_length is None or not sequence_length >= 1:
            raise ValueError(
                f"sequence_length={sequence_length!r}: attention needs a length of 1 or more; "
                "give it, or attention=False."
            )
        seen = (sequence_length + 1) / 2 if causal and self.kind == "decoder" else sequence_length
        return flops + passes * 4.0 * self.layers * self.heads * self.head_dim * seen

    def hoffmann_flops_per_token(self, sequence_length: int, embeddings: bool = True) -> float:
        """Training FLOPs a token as appendix F of Hoffmann et al. 2022 (arXiv 2203.15556) counts them.

        Beside the products of `flops_per_token` there are the embedding as a product with one-hot vectors, 2 V d,
        and a softmax of 3 h T a block; the backward pass is twice the forward pass. The ratios to 6 N D in table A4
        of that paper come out without embeddings and head, N with d^2 more a block for relative positions.

        Args:
            sequence_length: T.
            embeddings: with the embedding and the vocabulary head, as the appendix lists them.

        Raises:
            ValueError: `vocab` is needed and not known, or the architecture has no attention.
        """
        if self.kind == "mlp":
            raise ValueError("an MLP has no sequence; use flops_per_token.")
        extra = 3.0 * self.layers * self.heads * sequence_length
        if embeddings and self.vocab is None:
            raise ValueError("vocab of this architecture is not known; give it, or count with embeddings=False.")
        extra += 2.0 * self.vocab * self.width if embeddings else 0.0
        return self.flops_per_token(sequence_length, embeddings=embeddings) + 3.0 * extra

    def to_dict(self) -> dict[str, Any]:
        """Every setting as strict JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def __str__(self) -> str:
        shown = (f for f in fields(self) if getattr(self, f.name) != f.default and f.name != "kind")
        return f"{self.kind} " + ", ".join(f"{f.name}={getattr(self, f.name)!r}" for f in shown)

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _check_numbers(self) -> None:
        least = dict.fromkeys(("layers", "positions", "segments", "experts", "experts_per_token"), 0)
        least |= dict.fromkeys(("shared_experts", "dense_layers", "norms"), 0)
        least |= dict.fromkeys(("width", "heads", "kv_heads", "head_dim", "ffn", "vocab", "expert_ffn"), 1)
        for name, low in (least | {"inputs": 1, "outputs": 1}).items():
            value = getattr(self, name)
            if value is None and name not in ("layers", "width"):
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1 or value < low:
                raise ValueError(f"{name}={value!r} must be a whole number of at least {low}.")
            self._set(**{name: int(value)})

    def _attention_matrices(self) -> int:
        return self.width * self.head_dim * 2 * (self.heads + self.kv_heads)

    def _ffn(self, hidden: int, bias: bool = True) -> int:
        maps = 3 if self.gated else 2
        return maps * self.width * hidden + ((maps - 1) * hidden + self.width if bias and "ffn" in self.bias else 0)

    def _matrices(self) -> int:
        """Entries of the matrices that multiply a token, the head's left out."""
        sparse = self.layers - self.dense_layers if self.experts else 0
        chosen = self.experts_per_token + self.shared_experts
        return (
            self.layers * self._attention_matrices()
            + (self.layers - sparse) * self._ffn(self.ffn, bias=False)
            + self.width * self.width * self.head_layer
            + sparse * (chosen * self._ffn(self.expert_ffn, bias=False) + self.width * self.experts)
        )

    def _head(self) -> int:
        if self.head and self.vocab is None:
            raise ValueError("vocab of this architecture is not known; give it, or count with embeddings=False.")
        return self.vocab * self.width if self.head else 0

    def _mlp_maps(self) -> list[tuple[int, int]]:
        sizes = [self.inputs, *[self.width] * self.layers, self.outputs]
        return list(pairwise(sizes))

    def _mlp_flops(self, exact: bool, training: bool) -> float:
        if not exact:
            return (FLOPS_PER_PARAM_TOKEN if training else FLOPS_PER_PARAM_TOKEN / 3.0) * self.params()
        maps = self._mlp_maps()
        forward = 2.0 * sum(a * b for a, b in maps)
        # nobody asks for a gradient with respect to the data
        return 3.0 * forward - 2.0 * maps[0][0] * maps[0][1] if training else forward


_EMBEDDINGS = ("embedding", "positions", "head")
