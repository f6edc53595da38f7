"""Lists of times for property tests."""

from hypothesis import strategies as st

valid_lists = (
    st.lists(st.floats(0, 1, exclude_min=True), min_size=1, max_size=20, unique=True)
    .map(lambda times: [*sorted(times, reverse=True), 0.0])
)  # fmt: skip
