"""What all tasks of independent examples promise beside the contract of every task."""

import torch

from workbench.probes import Probe
from workbench.testing.tasks import TaskContract


class ExamplesContract(TaskContract):
    """Held-out examples are asked for by name here: the evaluation also scores the training set."""

    def heldout(self, data):
        return {row.numpy().tobytes() for row in data.test_inputs.flatten(0, 1).contiguous()}

    def finite(self) -> Probe:
        """A probe with a training set of 48."""
        return self.probe.replace(train_size=48, batch_tokens=16, tokens=16 * 12)

    def test_a_finite_set_is_seen_once_an_epoch_and_small_sets_begin_large_ones(self):
        probe = self.finite()
        data, larger = self.build([probe]), self.build([probe.replace(train_size=80)])
        seen = [data.batch(*(rows[0] for rows in data.block(step, 1)))[0][0] for step in range(6)]
        for epoch in (seen[:3], seen[3:]):
            rows = {row.numpy().tobytes() for row in torch.cat(epoch)}
            assert rows == {row.numpy().tobytes() for row in larger.inputs[0, :48]} and len(rows) == 48
        assert not torch.equal(torch.cat(seen[:3]), torch.cat(seen[3:]))

    def test_a_full_batch_is_the_whole_set_in_one_order(self):
        probe = self.finite().replace(batch_tokens=48, tokens=48 * 4)
        data = self.build([probe, probe.replace(seed=9, lr=0.1)])
        first, second = (data.batch(*(rows[0] for rows in data.block(step, 1))) for step in (0, 3))
        assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
        assert torch.equal(first[0][0], data.inputs[0, :48]) and torch.equal(first[0][0], first[0][1])

    def test_noise_changes_the_share_it_says_and_no_held_out_target(self):
        loss = self.probe.task_settings.loss
        field = "label_noise" if loss == "cross_entropy" else "target_noise"
        n = 1400  # as many as the smallest pool of examples has
        clean = self.finite().replace(train_size=n)
        data, noisy = self.build([clean]), self.build([clean.replace(**{field: 0.3})])
        assert torch.equal(data.inputs, noisy.inputs)
        assert torch.equal(data.test_targets, noisy.test_targets)
        before, after = data.targets[0, :n], noisy.targets[0, :n]
        if loss == "cross_entropy":
            assert abs(float((before != after).double().mean()) - 0.3) < 4.5 * (0.21 / n) ** 0.5
            moved = ((after - before) % self.probe.task_settings.outputs)[before != after]
            counts = torch.bincount(moved)[1:].double()
            assert len(counts) == self.probe.task_settings.outputs - 1  # each wrong label, about alike
            assert bool(((counts - counts.mean()).abs() < 5 * counts.mean().sqrt() + 1e-9).all())
        else:
            assert abs(float((after - before).double().std()) - 0.3) < 4.5 * 0.3 / (2 * n) ** 0.5
