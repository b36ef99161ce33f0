"""Korean captions with references, and what other libraries say of them."""

CAPTIONS = [
    "빨간 체크 셔츠를 찍은 상품 사진",
    "흰색 배경 위에 놓인 파란 운동화 한 켤레",
    "나무 옷걸이에 걸린 검은 코트",
    "노란 우산 하나가 바닥에 펼쳐져 있다",
    "분홍 꽃무늬 원피스를 입은 사람",
    "회색 줄무늬 양말",
]
REFERENCES = [
    ["빨간 체크 셔츠를 찍은 사진", "빨간 체크무늬 셔츠 상품 사진"],
    ["흰색 배경 위에 파란 운동화 한 켤레가 놓여 있다"],
    ["나무 옷걸이에 걸린 검은 코트", "검은 롱코트가 옷걸이에 걸려 있는 사진"],
    [
        "노란 우산 하나가 바닥에 펼쳐져 있다",
        "바닥에 펼쳐진 노란 우산",
        "노란 장우산을 찍은 상품 사진",
    ],
    ["분홍 꽃무늬 원피스 상품 사진"],
    ["회색 줄무늬 양말 한 켤레를 찍은 상품 사진", "줄무늬 양말"],
]

# pycocoevalcap 1.2 (BleuScorer "closest", CiderScorer n=4 sigma=6) on texts split at spaces, which
# is what `words` does to them; sacrebleu 2.6.0 CHRF() on the same texts.
BLEU4, CIDER_D, CHRF = 0.6156488412308492, 3.8415629435159873, 0.765786631453047
