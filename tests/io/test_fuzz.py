"""A short run of tests/support/fuzz.py: no reader does anything with a mutant but read it or refuse it."""

import fuzz


def test_mutants_are_read_or_refused(tmp_path):
    counts, faults = fuzz.run(450, 12, tmp_path)
    assert not faults
    assert {reader: sum(count) for reader, count in counts.items()} == dict.fromkeys(counts, 30)
    assert all(read for read, _ in counts.values()), counts  # mutants that none takes would find little
