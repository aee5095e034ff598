"""An importer: a made-up harness that writes one exchange a line, ``{"asked", "answered", "ended", "mark"}``."""

from counterclaim import AnswerRow, Collector, InputFile, Message, importer


def looks_like_exchanges(file: InputFile) -> bool:
    return file.kind == "jsonl" and {"asked", "answered"} <= set(file.columns)


@importer("exchanges", about="exchanges of a made-up harness .jsonl", sniff=looks_like_exchanges)
def exchanges(file: InputFile, out: Collector) -> None:
    for line, row in file.rows():
        if not isinstance(row.get("asked"), str) or not isinstance(row.get("answered"), str):
            raise out.fail("the exchange holds no texts", line, "write it again")
        turns = (Message("user", row["asked"]),)
        key = out.add(AnswerRow(line, row["answered"], turns=turns, finish=row.get("ended")))
        mark = row.get("mark")
        value = float(mark) if isinstance(mark, int) and 0 <= mark <= 5 else None
        out.score(key, "score.mark", value, "exchanges:mark@1")
