"""A line of more values than can be seen."""

import random
import time

from fastcifar.report.drawing import MOST, Picture, in_style, line, new_figure


@in_style
def drawn(values: list[float]) -> Picture:
    figure, axis = new_figure(2.6)
    line(axis, range(len(values)), values, "black")
    return Picture("one", figure, "A line.", "A line.")


def points(picture: Picture) -> tuple[list[float], list[float]]:
    (only,) = picture.figure.axes[0].lines
    return list(only.get_xdata()), list(only.get_ydata())


def test_what_can_be_seen_is_drawn_as_it_is() -> None:
    values = [float(number % 7) for number in range(MOST)]
    assert points(drawn(values)) == (list(range(MOST)), values)


def test_of_more_the_ends_the_least_and_the_most_stay() -> None:
    values = [random.Random(7).random() * 0.1 + number % 3 for number in range(80_000)]
    values[12_345], values[54_321] = 90.0, -90.0
    picture = drawn(values)
    places, shown = points(picture)
    assert len(shown) <= MOST
    assert places == sorted(places)
    assert (places[0], places[-1]) == (0, 79_999)
    assert [values[place] for place in places] == shown
    assert (places[shown.index(90.0)], places[shown.index(-90.0)]) == (12_345, 54_321)
    began = time.process_time()
    picture.png()
    assert time.process_time() - began < 2  # whole, it took four


def test_one_epoch_is_one_tick() -> None:
    assert drawn([0.5]).figure.axes[0].get_xticks().tolist() == [0]
