"""The training step of wide transformers on a CPU: forward and backward written out, member after member.

Autograd's step allocates every intermediate anew and holds the activations of all members at once, which
a cache does not. Here one member runs at a time in memory that is reused, products write where their result
is needed (gradients straight into the flat buffer, branches onto the residual stream), and a member's
arithmetic is the solo run's by construction. `Ensemble.loss` stays the definition; this agrees with it to
float32 rounding.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from workbench.probes.ensemble import Ensemble

__all__ = ["CpuStep", "cpu_step"]

#: Settings that this step covers; any optimizer, schedule and parametrization goes with them.
_COVERED = {
    "model": "transformer", "precision": "fp32", "norm": "rms", "gains": False, "norm_position": "pre",
    "qk_norm": False, "activation": "relu2", "tied": False, "z_loss": 0.0, "output_scale": 1.0,
}  # fmt: skip
#: FLOPs of one member's step below which the price of issuing operations one member at a time is felt.
_LEAST_FLOPS = 1e8
_EPS = 1e-6


def cpu_step(ensemble: Ensemble) -> CpuStep | None:
    """This step for a stack on a CPU, or None where the plain path must train it; a function of its shape."""
    first = ensemble.probes[0]
    # the meta device is where operations are counted
    if ensemble.backend.device.type not in ("cpu", "meta") or ensemble.backend.fused_attention:
        return None
    if any(getattr(probe, name, None) != value for probe in ensemble.probes for name, value in _COVERED.items()):
        return None
    if first.positions == "rotary" or first.flops / first.steps < _LEAST_FLOPS:
        return None
    if ensemble.task.loss != "cross_entropy" or ensemble.scored is not None or ensemble.task.inputs.kind != "tokens":
        return None
    return CpuStep(ensemble)


class CpuStep:
    """One optimizer step of a stack, in place.

    Args:
        ensemble: the stack; its weights, gradient and optimizer are used where they are.
    """

    def __init__(self, ensemble: Ensemble) -> None:
        first, weights = ensemble.probes[0], ensemble.weights
        self.optimizer, self.flat, self.causal = ensemble.optimizer, weights, ensemble.model.causal
        self.weights, self.grads = weights.master, weights.named(weights.grad)
        self.factors = {name: ensemble.multipliers.get(name, 1.0) for name in weights.shapes}
        self.depth, self.heads, self.members = first.depth, first.heads, len(ensemble.probes)
        d, t, v = first.width, ensemble.task.inputs.context, ensemble.task.outputs
        s, n, hidden = first.batch, first.batch * t, ensemble.model.mlp_hidden
        self.shape = s, t, d
        scale = ensemble.model.score_scale
        self.score_scale = 1 / math.sqrt(d // first.heads) if scale is None else scale
        device = ensemble.backend.device
        self.mask = torch.full((t, t), -math.inf, device=device).triu_(1) if self.causal else None

        def empty(*size: int) -> torch.Tensor:
            return torch.empty(size, device=device)

        def layers(*size: int) -> list[torch.Tensor]:
            return [empty(*size) for _ in range(self.depth)]

        self.normed = {"attention": layers(n, d), "mlp": layers(n, d), "last": [empty(n, d)]}
        self.scales = {"attention": layers(n, 1), "mlp": layers(n, 1), "last": [empty(n, 1)]}
        self.qkv, self.shares, self.mixed = layers(n, 3 * d), layers(first.heads, s, t, t), layers(n, d)
        self.positive = layers(n, hidden)
        self.x, self.active, self.logits = (empty(n, size) for size in (d, hidden, v))
        # gradients: of the stream, of what a product gave, and scratch
        self.dx, self.dnormed, self.scratch, self.row = (empty(n, size) for size in (d, d, d, 1))
        self.dqkv, self.dhidden = empty(n, 3 * d), empty(n, hidden)
        self.dshares = empty(first.heads, s, t, t)
        self.by_head = empty(3, first.heads, s, t, d // first.heads)

    def refresh(self) -> None:
        """Nothing to do: the master weights are read where they are."""

    def __call__(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Train on one batch; its losses [E]. Advances `optimizer.step`."""
        losses = self.loss_and_gradient(inputs, targets)
        self.optimizer.update()
        return losses

    def loss_and_gradient(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Losses [E] of inputs [E, B, T] and targets [E, B T]; writes the gradients into the flat buffer."""
        losses = torch.empty(self.members, device=self.flat.data.device)
        with torch.no_grad():
            self.flat.grad[:, self.flat.size :].zero_()
            for member in range(self.members):
                w = {name: view[member] for name, view in self.weights.items()}
                g = {name: view[member] for name, view in self.grads.items()}
                ids = inputs[member].flatten()
                self._forward(w, ids)
                losses[member] = self._loss(w, g, targets[member, :, None])
                self._backward(w, g, ids)
        return losses

    def _forward(self, w: dict[str, torch.Tensor], ids: torch.Tensor) -> None:
        x = torch.index_select(w["embedding"], 0, ids, out=self.x)
        if self.factors["embedding"] != 1.0:
            x.mul_(self.factors["embedding"])
        if "positions" in w:
            x.view(self.shape).add_(w["positions"], alpha=self.factors["positions"])
        for i in range(self.depth):
            self._product(self._norm("attention", i), w, f"{i}.qkv", self.qkv[i])
            self._attend(i)
            self._product(self.mixed[i], w, f"{i}.attention_out", x, add=1.0)
            self._product(self._norm("mlp", i), w, f"{i}.up", self.positive[i])
            self.positive[i].clamp_min_(0.0)
            self._product(self._activate(i), w, f"{i}.down", x, add=1.0)
        self._norm("last", 0)

    def _loss(self, w: dict[str, torch.Tensor], g: dict[str, torch.Tensor], targets: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy; leaves the gradient of the last norm's output in `dnormed`."""
        hidden, logits = self.normed["last"][0], self.logits
        self._product(hidden, w, "head", logits)
        torch.softmax(logits, -1, out=logits)
        hit = logits.gather(-1, targets)
        loss = hit.clamp_min(torch.finfo(torch.float32).tiny).log_().mean().neg_()
        logits.scatter_(-1, targets, hit - 1)  # softmax minus one-hot: n times the gradient of the logits
        self._gradients(hidden, logits, w, g, "head", self.dnormed, 1 / len(targets))
        return loss

    def _backward(self, w: dict[str, torch.Tensor], g: dict[str, torch.Tensor], ids: torch.Tensor) -> None:
        dx = self.dx.zero_()
        self._norm_backward("last", 0)
        for i in reversed(range(self.depth)):
            self._gradients(self._activate(i), dx, w, g, f"{i}.down", self.dhidden, inner=2.0)
            self.dhidden.mul_(self.positive[i])
            self._gradients(self.normed["mlp"][i], self.dhidden, w, g, f"{i}.up", self.dnormed)
            self._norm_backward("mlp", i)
            self._gradients(self.mixed[i], dx, w, g, f"{i}.attention_out", self.dnormed)
            self._attend_backward(i)
            self._gradients(self.normed["attention"][i], self.dqkv, w, g, f"{i}.qkv", self.dnormed)
            self._norm_backward("attention", i)
        if "positions" in w:
            torch.sum(dx.view(self.shape), 0, out=g["positions"])
            if self.factors["positions"] != 1.0:
                g["positions"].mul_(self.factors["positions"])
        g["embedding"].zero_().index_add_(0, ids, dx, alpha=self.factors["embedding"])

    def _product(
        self, x: torch.Tensor, w: dict[str, torch.Tensor], name: str, out: torch.Tensor, add: float = 0.0
    ) -> None:
        """out = add * out + multiplier * x w."""
        torch.addmm(out, x, w[name], beta=add, alpha=self.factors[name], out=out)

    def _gradients(
        self, x: torch.Tensor, dy: torch.Tensor, w: dict[str, torch.Tensor], g: dict[str, torch.Tensor], name: str,
        dx: torch.Tensor, scale: float = 1.0, inner: float = 1.0,
    ) -> None:  # fmt: skip
        """Gradients of `_product`'s weight and input from `scale` dy; the input's is also multiplied by `inner`."""
        alpha = scale * self.factors[name]
        torch.addmm(g[name], x.T, dy, beta=0.0, alpha=alpha, out=g[name])
        torch.addmm(dx, dy, w[name].T, beta=0.0, alpha=alpha * inner, out=dx)

    def _activate(self, i: int) -> torch.Tensor:
        """ReLU^2, computed again in the backward pass: cheaper than to fetch it from memory."""
        return torch.mul(self.positive[i], self.positive[i], out=self.active)

    def _norm(self, branch: str, i: int) -> torch.Tensor:
        """The stream divided by its root mean square."""
        scale = torch.mean(torch.mul(self.x, self.x, out=self.scratch), -1, keepdim=True, out=self.scales[branch][i])
        return torch.mul(self.x, scale.add_(_EPS).rsqrt_(), out=self.normed[branch][i])

    def _norm_backward(self, branch: str, i: int) -> None:
        """Add to `dx` what `dnormed` is worth before the norm."""
        y, dy = self.normed[branch][i], self.dnormed
        mean = torch.mean(torch.mul(dy, y, out=self.scratch), -1, keepdim=True, out=self.row)
        self.dx.addcmul_(dy.addcmul_(y, mean, value=-1.0), self.scales[branch][i])

    def _per_head(self, packed: torch.Tensor, parts: int) -> torch.Tensor:
        """Views [parts, heads, B, T, c] of packed rows [n, parts d]; products read them without a copy."""
        s, t, d = self.shape
        return packed.view(s, t, parts, self.heads, d // self.heads).permute(2, 3, 0, 1, 4)

    def _attend(self, i: int) -> None:
        query, key, value = self._per_head(self.qkv[i], 3)
        shares, mixed = self.shares[i], self.by_head[0]
        for head, scores in enumerate(shares):
            # beta = 0 where nothing is masked: the old content does not count
            mask, beta = (scores, 0.0) if self.mask is None else (self.mask, 1.0)
            torch.baddbmm(mask, query[head], key[head].mT, beta=beta, alpha=self.score_scale, out=scores)
        torch.softmax(shares, -1, out=shares)
        for head, share in enumerate(shares):
            torch.bmm(share, value[head], out=mixed[head])
        self._per_head(self.mixed[i], 1)[0].copy_(mixed)

    def _attend_backward(self, i: int) -> None:
        """`dqkv` from `dnormed`, the gradient of what attention gave."""
        query, key, value = self._per_head(self.qkv[i], 3)
        dquery, dkey, dvalue = self.by_head  # batched products write without gaps only
        (dmixed,) = self._per_head(self.dnormed, 1)
        shares, dshares = self.shares[i], self.dshares
        for head, share in enumerate(shares):
            torch.bmm(share.mT, dmixed[head], out=dvalue[head])
            torch.bmm(dmixed[head], value[head].mT, out=dshares[head])
        torch.ops.aten._softmax_backward_data.out(dshares, shares, -1, torch.float32, grad_input=dshares)
        for head, share in enumerate(dshares):
            scale = {"beta": 0.0, "alpha": self.score_scale}
            torch.baddbmm(dquery[head], share, key[head], **scale, out=dquery[head])
            torch.baddbmm(dkey[head], share.mT, query[head], **scale, out=dkey[head])
        self._per_head(self.dqkv, 3).copy_(self.by_head)
