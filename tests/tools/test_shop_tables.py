"""The pages of caption_tuning and vqa: every figure is the one that was measured, in its place."""

from tools import caption_tuning, vqa


def measured(text_to_image, exact):
    """As ``caption_tuning.measure`` keeps it; what is not asked about is the same everywhere."""
    retrieval = {
        "text_to_image/r5": text_to_image,
        "image_to_text/r5": 0.25,
        "text_to_image/chance_r5": 0.0125,
        "image_to_text/chance_r5": 0.02,
    }
    queries = {
        "exact": exact,
        "nearest/r1": 0.5,
        "nearest/median_rank": 3.0,
        "chance_exact": 0.001,
        "nearest/chance_r1": 0.004,
        "gallery": 321.0,
    }
    captions = {"prompt/cider_d": 1.25, "prompt/bleu4": 0.125}
    return {
        "measured": {
            "retrieval/query": retrieval,
            "retrieval/query_en": retrieval | {"text_to_image/r5": text_to_image / 2},
            "zero_shot": {"query/top1": 0.3, "query/chance_top1": 0.045},
            "captions/caption": captions,
            "captions/caption_en": captions,
            "queries/query": queries,
            "queries/query_en": queries,
        },
        "examples": [
            {
                "caption": "빨간 셔츠",
                "query": "셔츠",
                "true_caption": "빨간색 셔츠 한 벌.",
                "true_query": ["빨간 셔츠", "셔츠"],
            }
        ],
    }


def row_of(page, *cells):
    """The line of a table that begins with these cells, as its cells."""
    start = "| " + " | ".join(cells) + " |"
    (line,) = [line for line in page.splitlines() if line.startswith(start)]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_page_of_captions_has_a_line_a_run_and_says_what_became_of_retrieval():
    runs = [
        {"name": "base", **measured(0.6, 0.1)},
        {"name": "caption-alone", **measured(0.02, 0.0)},
        {"name": "caption-kept", **measured(0.55, 0.1)},
        {"name": "query_en-alone", **measured(0.04, 0.7)},
    ]
    page = caption_tuning.body(runs)
    base = row_of(page, "nothing (base)", "", "Korean")
    assert base[3:] == ["60.0", "25.0", "30.0", "1.25", "0.125", "10.0", "50.0", "3"]
    assert row_of(page, "nothing (base)", "", "English")[3] == "30.0"
    assert row_of(page, "`caption`", "off", "Korean")[3] == "2.0"
    assert row_of(page, "`caption`", "kept, weight 1", "Korean")[3] == "55.0"
    english = row_of(page, "`query_en`", "off", "English")
    assert (english[3], english[8]) == ("2.0", "70.0")
    assert "from 60.0 % to 2.0 % with the captioning loss alone, and to 55.0 %" in page
    assert "On `query_en`" not in page  # one of a pair says nothing yet
    assert "321 distinct queries" in page


def test_the_page_of_questions_has_a_line_a_kind_beside_chance_and_another_image():
    kinds = {"color": (20, 0.9, 0.15, 0.1), "has": (10, 0.6, 0.5, 0.55)}
    scores, counts = {}, {}
    for wording, less in (("training", 0.0), ("held_out", 0.1)):
        scores |= {
            f"{wording}/all": 0.8 - less,
            f"{wording}/chance_all": 0.25,
            f"{wording}/all/other_image": 0.2,
        }
        for kind, (count, right, chance, other) in kinds.items():
            counts[f"{wording}/{kind}"] = count
            scores[f"{wording}/{kind}"] = right - less
            scores[f"{wording}/chance_{kind}"] = chance
            scores[f"{wording}/{kind}/other_image"] = other
    example = {"question": "무슨 색이야?", "true": "빨간색", "given": "주황색"}
    page = vqa.body({"scores": scores, "counts": counts, "examples": [example]})
    first, second = page.split("## Held-out pictures, held-out wordings")
    assert row_of(first, "color") == ["color", "20", "90.0", "15.0", "10.0"]
    assert row_of(second, "color") == ["color", "20", "80.0", "15.0", "10.0"]
    assert row_of(first, "all") == ["all", "30", "80.0", "25.0", "20.0"]
    assert row_of(second, "has")[2] == "50.0"
    assert row_of(page, "무슨 색이야?") == ["무슨 색이야?", "빨간색", "주황색"]
