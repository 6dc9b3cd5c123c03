"""Whether a record's runs had the machine to themselves, and a source that others can have."""

import math

from fastcifar.records.record import Environment, Record

BUSY_CORES = 0.05  # of other programs: fewer is what an idle machine's own services take


def other_cores(record: Record) -> float | None:
    """CPU cores that other programs kept busy during training, a mean over its seconds; None where no epoch says."""
    known = [epoch for run in record.runs for epoch in run.epochs if epoch.other_cores is not None]
    if not known:
        return None
    spent = math.fsum((epoch.other_cores or 0.0) * epoch.train_seconds for epoch in known)
    return spent / math.fsum(epoch.train_seconds for epoch in known)


def beside(record: Record) -> str:
    """In words, that other programs, or other runs, ran beside the runs; empty where they did not, or where that is not
    known."""
    sharing = record.environment.sharing
    return f"{sharing} runs at once" if sharing else busy(other_cores(record))


def busy(cores: float | None) -> str:
    """In words, that other programs kept so many cores busy; empty where they were next to none, or nobody knows."""
    return f"beside other work ({cores:.1f} cores)" if cores is not None and cores >= BUSY_CORES else ""


def unclean(environment: Environment) -> str:
    """In words, that nobody can check out what was measured: it had been changed since its commit, or that was not
    known; empty for a clean checkout."""
    if environment.dirty:
        return "dirty checkout"
    return "no commit" if environment.commit is None or environment.dirty is None else ""
