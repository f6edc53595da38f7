"""A package with entry points, installed as pip would."""

import sys


def install(folder, monkeypatch, text, **groups):
    """Put a module `plugin_of_a_test` and its entry points, group -> {name: attribute}, on the path."""
    (folder / "plugin_of_a_test.py").write_text(text)
    info = folder / "plugin_of_a_test-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin-of-a-test\nVersion: 1.0\n")
    lines = []
    for group, points in groups.items():
        lines += [f"[pidsampler.{group}]", *(f"{name} = plugin_of_a_test:{value}" for name, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setitem(sys.modules, "plugin_of_a_test", None)  # so that it is gone after the test
    del sys.modules["plugin_of_a_test"]
