import pytest
from made_records import record

from fastcifar.records.quiet import beside, other_cores
from fastcifar.records.record import Record


def with_cores(*cores: float | None) -> Record:
    made = record()
    runs = [
        run.model_copy(
            update={
                "epochs": [
                    epoch.model_copy(update={"other_cores": cores[number % len(cores)]})
                    for number, epoch in enumerate(run.epochs)
                ]
            }
        )
        for run in made.runs
    ]
    return made.model_copy(update={"runs": runs})


@pytest.mark.parametrize(
    ("cores", "mean", "said"),
    [
        ((None,), None, ""),
        ((0.02,), 0.02, ""),
        ((1.5,), 1.5, "beside other work (1.5 cores)"),
        ((None, 0.5), 0.5, None),
    ],
)
def test_what_ran_beside_is_a_mean_over_the_epochs_that_say(
    cores: tuple[float | None, ...], mean: float | None, said: str | None
) -> None:
    found = with_cores(*cores)
    assert other_cores(found) == (None if mean is None else pytest.approx(mean))
    if said is not None:
        assert beside(found) == said
