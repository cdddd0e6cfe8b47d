"""Tables as CSV: a spreadsheet runs nothing of them, and what was written is read."""

import polars as pl

from rsr.store.csv import read_csv, write_csv


def test_a_formula_is_a_text_and_comes_back(tmp_path):
    texts = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(1)", "\tx", "'=q", "''", "it's", "-1.5", "plain"]
    table = pl.DataFrame({"=name": texts, "value": [-1.5] * len(texts)})
    write_csv(table, tmp_path / "a[b].csv", digits=2)
    header, *lines = (tmp_path / "a[b].csv").read_text().splitlines()
    assert header == "'=name,value"
    starts = [line.strip('"')[0] for line in lines]
    assert starts == [*["'"] * 7, "i", "-", "p"]
    assert all(line.endswith(",-1.50") for line in lines)
    assert read_csv(tmp_path / "a[b].csv").to_series().to_list() == texts
