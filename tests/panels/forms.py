"""A probe panel on a queue that trains nothing, and a hand that types into its form."""

from __future__ import annotations

from tests.panels.jobs import SWEEP, Standin, StandinJob, write
from workbench.panels.probes_controls import section_of
from workbench.panels.probes_fields import declared


class Memory(Standin):
    """Remembers its jobs, as a queue that writes a board does."""

    def __init__(self, root):
        super().__init__(root)
        self.known = []

    def submit(self, sweep):
        job = super().submit(sweep)
        if sweep not in [one.sweep for one in self.known]:
            self.known.insert(0, job)
        return job

    def jobs(self):
        return list(self.known)


def ready(root, sweep=SWEEP, words=()):
    """A queue whose runs have ended, each with a word that its folder says."""
    queue = Memory(root)
    for i, probe in enumerate(sweep):
        write(root, probe, "finished", verdict=f"ended: {words[i % len(words)]}" if words else None)
    queue.known = [StandinJob(queue, sweep)]
    return queue


def form(shown, **texts):
    """Type these texts, each into its field, as a hand would."""
    c = shown.controls
    for name, value in texts.items():
        if name in c.own:
            c.own[name].text.value = value
        elif name in ("task", "model", "optimizer", "combine", "count", "horizons_in"):
            getattr(c, name).value = value
        else:
            part, _ = declared(*c.parts)[name]
            c.section.value = section_of(part, name)
            c.entries[name].text.value = value


def executed(shown, **names):
    namespace = dict(names)
    exec(shown.code(), namespace)
    return namespace
