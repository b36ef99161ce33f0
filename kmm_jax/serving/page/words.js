// What the page says, in Korean and English.

export const WORDS = {
  ko: {
    search: "검색", placeholder: "찾을 말을 쓰거나 사진을 끌어다 놓으세요", pick: "사진 고르기", other: "English",
    query: "검색 조건", image: "사진", text: "글", needkey: "이 서비스에는 키가 필요합니다", ok: "확인",
    narrow: "좁히기", results: "결과", close: "닫기", like: "비슷한 것 더", thumbnails: "대표 사진 고르기",
    words: "낱말", titles: "제목", pictures: "사진", searching: "찾는 중…", nothing: "찾은 문서가 없습니다",
    found: (n, ms) => `문서 ${n}개 · ${ms}ms`, busy: "붐빕니다. 곧 다시 찾습니다…", warming: "모델을 준비하는 중입니다…",
    offline: "서비스에 닿지 않습니다", nopicture: "사진이 아닙니다", toolarge: "사진이 너무 큽니다", mine: "내 사진",
    wrongkey: "키가 맞지 않습니다", likeof: (title) => `비슷한 것: ${title}`, remove: (what) => `${what} 빼기`,
    help: "단축키: / 검색창 · ←→↑↓ 결과 사이 · M 비슷한 것 · T 대표 사진 · +− 더하고 빼기 · Esc 처음으로. 사진은 끌어다 놓거나 붙여 넣어도 됩니다.",
    yes: "예", no: "아니요", title: "kmm 검색", draw: "그리기", drawing: "그리는 중…", drawn: "다 그렸습니다",
    partly: "일부 사진은 지금 찾을 수 없습니다", nothumbnail: "보여 줄 만한 사진이 없습니다", unsafe: "위험할 수 있는 사진", below_floor: "관련이 적은 사진", not_indexed: "아직 찾을 수 없는 사진",
    similarity: "유사도", quality: "품질", safety: "안전", diversity: "다양성",
    blackened: "안전 필터가 가린 그림입니다", searchwith: "이 그림으로 찾기", describe: "그릴 것을 쓰세요",
    itsname: "이름", unnamed: "이름을 모르는 사진입니다", fromit: "이 사진을 고쳐 그리기", strength: "얼마나 고칠까요",
    withit: "+ 이것도 있는", withoutit: "− 이것은 없는", sayterm: "더하거나 뺄 말을 먼저 쓰세요. 예: 꽃무늬",
    addlike: "이것도 닮은 (+)", unlike: "이것은 닮지 않은 (−)", addto: (what) => `${what} 더하기로 바꾸기`,
    takeaway: (what) => `${what} 빼기로 바꾸기`, weightof: (what, size) => `${what}, 세기 ${size}`,
    weightkeys: "누르면 세기가 바뀝니다. ↑↓로도 됩니다.", part: "일부", crop: "사진의 일부로 찾기",
    locate: "사진에서 무엇을 볼까요? 예: 신발", lookfor: "찾아 자르기", usebox: "이 부분으로 찾기", usewhole: "사진 전체로 찾기",
    boxkeys: "끌어서 상자를 그립니다. 화살표로 옮기고 Shift+화살표로 크기를 바꾸고 Enter로 찾습니다.",
  },
  en: {
    search: "Search", placeholder: "Say what to find, or drop a picture", pick: "Choose a picture", other: "한국어",
    query: "Query", image: "Picture", text: "Text", needkey: "This service asks for a key", ok: "OK",
    narrow: "Narrow", results: "Results", close: "Close", like: "More like this", thumbnails: "Choose thumbnail",
    words: "words", titles: "title", pictures: "image", searching: "Searching…", nothing: "No documents found",
    found: (n, ms) => `${n} documents · ${ms} ms`, busy: "Busy; trying again soon…", warming: "The model is warming up…",
    offline: "The service cannot be reached", nopicture: "That is no picture", toolarge: "The picture is too large", mine: "My picture",
    wrongkey: "The key is wrong", likeof: (title) => `Like: ${title}`, remove: (what) => `Remove ${what}`,
    help: "Keys: / search box · arrows between results · M more like this · T thumbnail · +− add or take away · Esc start again. Pictures can be dropped or pasted.",
    yes: "yes", no: "no", title: "kmm search", draw: "Draw", drawing: "Drawing…", drawn: "Drawn",
    partly: "some pictures cannot be searched now", nothumbnail: "No picture is fit to be shown", unsafe: "may be unsafe", below_floor: "fits too little", not_indexed: "not searched yet",
    similarity: "similarity", quality: "quality", safety: "safety", diversity: "diversity",
    blackened: "The safety filter hides this picture", searchwith: "Search with this picture", describe: "Say what to draw",
    itsname: "Name", unnamed: "The name of this picture is not known", fromit: "Make this picture over", strength: "How far",
    withit: "+ with this", withoutit: "− without this", sayterm: "First say what to add or take away, such as floral",
    addlike: "Like this one too (+)", unlike: "Unlike this one (−)", addto: (what) => `Add ${what} instead`,
    takeaway: (what) => `Take ${what} away instead`, weightof: (what, size) => `${what}, weight ${size}`,
    weightkeys: "Click to change the weight, or use ↑↓.", part: "a part", crop: "Search by a part of the picture",
    locate: "What to look at, such as shoes", lookfor: "Find it", usebox: "Search by this part", usewhole: "Search by all of it",
    boxkeys: "Drag to draw a box. Arrows move it, Shift+arrows resize it, Enter searches.",
  },
};

// Tags that shops and blogs have; others are shown by their own names.
export const TAGS = {
  ko: {
    color: "색", colour: "색", pattern: "무늬", source: "출처", kind: "종류", category: "분류", brand: "브랜드",
    season: "계절", region: "지역", gender: "성별", material: "소재", fit: "핏", size: "크기",
  },
  en: {},
};
