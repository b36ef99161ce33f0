"""What stages, reasons and measures are called on the page, in English and Korean."""

from __future__ import annotations

STAGES = {
    "pictures": ("Pictures looked at", "이미지 검사"),
    "beside": ("Texts beside pictures", "이미지와 함께 온 글"),
    "documents": ("Titles of documents", "문서 제목"),
    "clicks": ("Queries of clicks", "클릭 질의"),
    "products": ("Texts of products", "상품 정보"),
    "merge": ("Same files merged", "같은 파일 합치기"),
    "choose": ("Near copies left out", "비슷한 것 빼기"),
    "scores": ("Scored", "점수 계산"),
    "judge": ("Judged by scores", "점수로 거르기"),
    "shards": ("Written to shards", "샤드에 기록"),
}
OF_PICTURES = ("pictures", "merge", "choose", "scores", "judge")
OF_TEXTS = ("documents", "clicks", "products", "beside")

REASONS = {
    "kept": "남김",
    "small": "너무 작음",
    "aspect": "너무 길쭉함",
    "white": "흰 바탕뿐",
    "decode_error": "깨진 파일",
    "duplicate": "같은 파일",
    "near_duplicate": "거의 같은 이미지",
    "no_text": "글 없음",
    "purged": "삭제 요청됨",
    "watermark": "워터마크",
    "ocr": "글자 많음",
    "unsafe": "유해",
    "similarity": "글과 안 맞음",
    "malformed": "잘못된 행",
    "profanity": "욕설",
    "adult": "성인",
    "resident_number": "주민등록번호",
    "driver_license": "운전면허번호",
    "passport": "여권번호",
    "phone": "전화번호",
    "tracking_number": "송장번호",
    "card_number": "카드번호",
    "address": "주소",
    "email": "이메일",
    "url": "웹 주소",
    "symbols": "기호·영문",
    "language": "다른 언어",
    "noise_topic": "제외 주제",
    "empty": "빈 글",
}

MEASURES = {
    "short_side": ("Shorter side", "짧은 변", "px"),
    "width": ("Width", "너비", "px"),
    "height": ("Height", "높이", "px"),
    "pixels": ("Pixels", "픽셀 수", "px"),
    "aspect": ("Aspect", "긴 변 / 짧은 변", ""),
    "white": ("White", "흰 픽셀 비율", ""),
    "watermark_score": ("Watermark", "워터마크", ""),
    "ocr_num_box": ("Text boxes", "글자 상자 수", ""),
    "ocr_ratio_box": ("Text area", "글자 넓이", "%"),
    "unsafe_score": ("Unsafe", "유해 확률", ""),
    "title_kelip_score": ("Title fits", "이미지·제목 유사도", ""),
    "query_kelip_score": ("Query fits", "이미지·질의 유사도", ""),
    "title_characters": ("Title", "제목 길이", "characters"),
    "query_characters": ("Query", "질의 길이", "characters"),
    "caption_characters": ("Caption", "설명 길이", "characters"),
    "queries": ("Queries", "이미지당 질의 수", ""),
    "clicks": ("Clicks", "질의당 클릭 수", ""),
}


def of_stage(name: str) -> tuple[str, str]:
    """(English, Korean)."""
    return STAGES.get(name, (name, ""))


def of_measure(name: str) -> tuple[str, str, str]:
    """(English, Korean, unit); a score of the user's own is called as its column."""
    return MEASURES.get(name, (name, "", ""))
