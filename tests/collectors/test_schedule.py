"""Schedules: which steps are recorded."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.schedule import as_schedule, every, geometric_steps, paper_steps, wanted_steps
from inpca import InputError


@pytest.mark.parametrize(("batch_size", "count"), [(200, 67), (500, 62), (1000, 67), (128, 67)])
def test_paper_steps__records_about_seventy_checkpoints_of_cifar(batch_size, count):
    batches = -(-50_000 // batch_size)
    assert len(paper_steps(batches, epochs=200)) == count


def test_paper_steps__follows_the_rule_epoch_by_epoch():
    batches = 100
    steps = paper_steps(batches, epochs=200)
    assert steps[:6] == [0, 1, 26, 51, 76, 101]
    assert [s for s in steps if s <= 5 * batches][-1] == 4 * batches + 76
    ends = [s // batches - 1 for s in steps if s > 5 * batches]
    assert ends == [*range(5, 26), *range(28, 66, 4), *range(75, 200, 15), 199]


@given(batches=st.integers(1, 500), epochs=st.integers(1, 300))
def test_paper_steps__begins_untrained_ends_trained_and_never_repeats(batches, epochs):
    steps = paper_steps(batches, epochs)
    assert steps[0] == 0
    assert steps[-1] == batches * epochs
    assert steps == sorted(set(steps))


@given(last=st.integers(1, 5000), data=st.data())
def test_geometric_steps__are_distinct_and_reach_the_end(last, data):
    n = data.draw(st.integers(2, min(last + 1, 60)))
    steps = geometric_steps(n, last)
    assert len(steps) == n
    assert steps[0] == 0
    assert steps[-1] == last
    assert steps == sorted(set(steps))


def test_geometric_steps__refuses_more_checkpoints_than_steps():
    with pytest.raises(InputError, match="`n_checkpoints` must be between 2 and last_step"):
        geometric_steps(12, 10)


def test_as_schedule__takes_steps_callables_and_the_paper():
    assert [s for s in range(7) if as_schedule([0, 5])(s, 0)] == [0, 5]
    assert [s for s in range(7) if as_schedule(every(3))(s, 0)] == [0, 3, 6]
    assert as_schedule(lambda step, epoch: epoch == 2)(9, 2)
    paper = as_schedule("paper", batches_per_epoch=8, epochs=3)
    assert [s for s in range(30) if paper(s, 0)] == paper_steps(8, 3)


@pytest.mark.parametrize("batches", [1, 3, 8, 250])
@pytest.mark.parametrize("epochs", [1, 6, 40, 83])
@pytest.mark.parametrize("known", ["batches_per_epoch", "epochs", "neither"])
def test_paper_without_its_length__records_the_same_steps(batches, epochs, known):
    length = {"batches_per_epoch": batches, "epochs": epochs}
    schedule = as_schedule("paper", **{name: length[name] for name in length if name == known})
    last = batches * epochs
    recorded = [s for s in range(last + 1) if schedule(s, s / batches)]
    expected = paper_steps(batches, epochs)
    assert recorded in ([expected] if known == "epochs" else [expected, expected[:-1]])


@pytest.mark.parametrize("numbering", [lambda s: s // 8, lambda s: 1 + s // 8, lambda s: s / 8 + 1])
def test_paper_without_its_length__refuses_epochs_that_are_no_fractions(numbering):
    schedule = as_schedule("paper", epochs=200)
    with pytest.raises(InputError, match=r"batches_per_epoch=len\(train_loader\)"):
        _ = [schedule(step, numbering(step)) for step in range(20)]


@pytest.mark.parametrize("name", ["batches_per_epoch", "epochs"])
def test_paper__refuses_a_length_of_zero_at_once(name):
    with pytest.raises(InputError, match=f"`{name}` must be at least 1, not 0"):
        as_schedule("paper", **{name: 0})


@pytest.mark.parametrize("wrong", ["papers", 3])
def test_as_schedule__refuses_what_is_no_schedule(wrong):
    with pytest.raises(InputError, match="`schedule` must be 'paper', 'epochs', a callable"):
        as_schedule(wrong)


def test_every__refuses_zero():
    with pytest.raises(InputError, match="`n` must be at least 1, not 0"):
        every(0)


# -- steps that are not offered --


def due(schedule, offered, epoch=lambda step: step / 6):
    """Steps recorded of those offered, and the wanted ones that never were."""
    recorded, missed, before = [], [], -1
    for step in offered:
        wanted, lost = wanted_steps(schedule, before, step, epoch(step))
        recorded += [step] if wanted else []
        missed += lost
        before = step
    return recorded, missed


@pytest.mark.parametrize("known", [{"batches_per_epoch": 6, "epochs": 2}, {}])
def test_paper__takes_the_first_step_at_or_after_each_wanted_one(known):
    recorded, missed = due(as_schedule("paper", **known), [0, 6, 12])
    assert recorded == [0, 6, 12]
    assert missed == [s for s in paper_steps(6, 2) if s % 6 and (known or s < 12)]


def test_steps__of_several_wanted_between_two_offered_one_is_recorded():
    assert due(as_schedule([0, 4, 5, 9, 20]), [0, 3, 6, 8, 10, 11]) == ([0, 6, 10], [4, 5, 9])
    assert due(every(4), [0, 3, 6, 9, 10, 12, 13]) == ([0, 6, 9, 12], [4, 8])


@pytest.mark.parametrize("known", [{"batches_per_epoch": 6}, {}])
@pytest.mark.parametrize("stride", [1, 3, 6])
def test_epochs__records_the_end_of_each(known, stride):
    recorded, missed = due(as_schedule("epochs", **known), range(0, 25, stride))
    assert recorded == [0, 6, 12, 18, 24]
    assert missed == []


def test_epochs__goes_on_in_the_middle_of_a_training():
    schedule = as_schedule("epochs")
    offered = [step for step in range(9, 20) if wanted_steps(schedule, step - 1, step, step / 6)[0]]
    assert offered == [12, 18]


@pytest.mark.parametrize("epoch", [lambda step: 0, lambda step: 1 + step // 6, lambda _: math.nan])
def test_epochs__refuses_epochs_that_do_not_tell(epoch):
    with pytest.raises(InputError, match=r"schedule='epochs' cannot tell .* batches_per_epoch"):
        due(as_schedule("epochs"), range(1, 6), epoch)


# -- any step, any length --


@pytest.mark.parametrize(
    "known", [{}, {"batches_per_epoch": 1}, {"batches_per_epoch": 1, "epochs": 10**15}]
)
@pytest.mark.parametrize("name", ["paper", "epochs"])
@pytest.mark.parametrize("step", [10**12, 2**63 - 1])
def test_schedules__count_what_lies_before_a_huge_step_without_writing_it_out(name, known, step):
    schedule = as_schedule(name, **known)
    wanted, missed = wanted_steps(schedule, -1, step, float(step))
    assert wanted
    assert len(missed) == len(missed[:]) >= (0 if name == "epochs" and not known else 10**10)
    assert len(schedule.after(0)) == len(schedule.after(0)[:])


@given(batches=st.integers(1, 30), epochs=st.integers(1, 120), data=st.data())
def test_paper__between_any_two_steps_are_those_of_the_list(batches, epochs, data):
    end = batches * epochs
    before = data.draw(st.integers(-1, end))
    step = data.draw(st.integers(before + 1, end + 20))
    schedule = as_schedule("paper", batches, epochs)
    steps = paper_steps(batches, epochs)
    expected = [one for one in steps if before < one <= step]
    assert [*schedule.between(before, step, step / batches)] == expected
    assert [*schedule.after(before)] == [one for one in steps if one > before]
    assert expected == [one for one in range(before + 1, step + 1) if schedule(one, 0)]
    assert [*schedule.after(before)[1:-1]] == [one for one in steps if one > before][1:-1]


@pytest.mark.parametrize("wrong", [2.5, "3", True, float("nan"), 10**30])
@pytest.mark.parametrize("name", ["batches_per_epoch", "epochs"])
def test_as_schedule__names_a_length_that_is_no_whole_number(name, wrong):
    for schedule in ("paper", "epochs", [0, 1]):
        with pytest.raises(InputError, match=f"`{name}` must be whole numbers"):
            as_schedule(schedule, **{name: wrong})


def test_as_schedule__names_steps_that_are_none_and_takes_whole_floats():
    for wrong in ([0, 2.5], ["0"], [None], "every"):
        with pytest.raises(InputError, match="`schedule`"):
            as_schedule(wrong)
    with pytest.raises(InputError, match="`n` must be whole numbers"):
        every(2.5)
    assert as_schedule([0, 6.0]).steps == {0, 6}
    assert every(6.0)(6, 0)
    assert as_schedule("epochs", 6.0, 2.0).after(0)[:] == range(6, 13, 6)


def test_as_schedule__refuses_a_list_without_end():
    with pytest.raises(InputError, match=r"`schedule` must give at most 1,000,000.*every"):
        as_schedule(range(10**12))
    with pytest.raises(InputError, match="`epochs` must give at most"):
        paper_steps(1, 10**12)
    with pytest.raises(InputError, match="The updates in"):
        as_schedule("paper", 2**40, 2**40)


def test_paper__refuses_epochs_too_small_to_count_batches():
    with pytest.raises(InputError, match="cannot tell how many batches"):
        wanted_steps(as_schedule("paper"), -1, 7, 5e-324)
