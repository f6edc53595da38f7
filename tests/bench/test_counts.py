"""What bench/instructions.py does where it cannot count."""

import pytest
import sass


def test_without_a_disassembler_the_record_stays(load_script, monkeypatch, tmp_path):
    monkeypatch.setattr(sass, "disassembler", lambda: None)
    target = tmp_path / "instructions.csv"
    target.write_text("of before")
    with pytest.raises(SystemExit, match="pip install nvidia-cuda-nvrtc nvidia-cuda-nvdisasm"):
        load_script("bench/instructions.py").record(target)
    assert target.read_text() == "of before"
