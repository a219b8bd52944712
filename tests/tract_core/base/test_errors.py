from tract_core.base.errors import list_some


def test_a_long_list_is_cut_and_counted():
    assert list_some(["a", "b", "c"], limit=2) == "  a\n  b\n  ... and 1 more"
