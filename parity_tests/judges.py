"""Which tests judge mutants of what no layer runs: ``parity mutate --tests parity_tests/judges.py``."""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
SAVED = ("test_plain.py::test_every_layer_is_saved_in_its_own_dtype_and_any_memory_order",
         "test_plain.py::test_what_a_narrower_dtype_would_round_is_noticed",
         "test_plain.py::test_the_textbooks_pickle_is_a_list_of_rounded_halves", "test_weights.py")
TRAINED = ("test_plain.py::test_a_training_run_is_a_plain_loop", "test_training.py")

TESTS = {
    "reference.batches": ("test_plain.py::test_batches_of_all_sizes_are_one_permutation_cut", "test_draws.py",
                          "test_training.py::test_batches_are_all_rows_once_in_an_order_of_the_seed"),
    "reference.data": ("test_data.py", "test_draws.py", *(f"test_plain.py::test_{name}" for name in (
        "sets_of_all_sizes_are_encoded_as_said", "as_many_characters_as_there_are_keep_their_ids",
        "a_file_means_the_same_whatever_ends_its_lines", "shorter_ones_are_filled_up_at_their_end",
        "a_file_is_read_anew_each_time_and_what_was_read_is_the_callers_own",
        "dates_of_all_sizes_are_the_draws_of_their_seed", "bytes_are_written_as_they_are"))),
    "reference.weights": SAVED,
    "reference.trainer": (*(f"test_plain.py::test_{name}" for name in (
        "the_trainer_is_a_plain_loop", "the_textbooks_defaults_of_the_trainer",
        "evaluation_counts_every_row_once_in_chunks_of_any_size")), *(f"test_training.py::test_{name}" for name in (
            "trainer_clips_and_counts_epochs_and_checks_rows", "eval_seq2seq_counts_exact_matches_as_the_textbook_does",
            "without_a_terminal_progress_is_lines", "on_a_terminal_progress_is_a_bar",
            "progress_goes_on_while_the_clock_stands_still"))),
    "torch_port.weights": SAVED,
    "torch_port.stock": ("test_weights.py",),
    "torch_port.trained": ("test_plain.py::test_answers_come_in_the_order_of_the_questions_however_many",
                           "test_predict.py"),
    "torch_port.predict": ("test_plain.py::test_lines_are_those_of_the_file_wherever_it_is_cut", "test_predict.py"),
    "torch_port.training.data": TRAINED,
    "torch_port.training.run": TRAINED,
}


class _First:
    """Remembers the first test that failed, or that could not be collected."""

    failed = ""

    def pytest_runtest_logreport(self, report):
        self.failed = self.failed or report.nodeid * report.failed

    pytest_collectreport = pytest_runtest_logreport


def failed(tests):
    """The first of some tests that fails, run in this process; empty where all pass."""
    first = _First()
    for name in [name for name in sys.modules if name.rpartition(".")[2].startswith("test_")]:
        del sys.modules[name]  # one that is loaded already holds what it imported then
    without = [word for plugin in ("cacheprovider", "xdist") for word in ("-p", f"no:{plugin}")]
    settings = ("-x", "-q", *without, "-c", HERE.parent / "pyproject.toml", "--rootdir", HERE.parent)
    code = pytest.main([*map(str, settings), *(str(HERE / test) for test in tests)], plugins=[first])
    return first.failed or ("" if code == pytest.ExitCode.OK else f"pytest ends with {code!r}")
