"""A signal to a sweep is put off to where it can end in order; a second one is not."""

import os
import signal
import threading

import pytest

from sledgehammer_allennlp.sweeps.interruption import Interrupted, Interruption


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_waits_for_a_place_and_the_second_does_not(number):
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    with Interruption() as interruption:
        interruption.raise_if_it_came()
        os.kill(os.getpid(), number)
        with pytest.raises(Interrupted) as first:
            interruption.raise_if_it_came()
        with pytest.raises(Interrupted) as second:
            os.kill(os.getpid(), signal.SIGINT)
    assert (first.value.number, second.value.number) == (number, signal.SIGINT)
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before


def test_where_no_signals_can_be_handled_none_is_put_off():
    raised = []

    def work():
        with Interruption() as interruption:
            interruption.raise_if_it_came()
            raised.append(False)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert raised == [False]
