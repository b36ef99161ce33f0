"""English captions with references, and how pycocoevalcap's PTBTokenizer (Java) cuts texts."""

CAPTIONS = [
    "a dog runs on the grass",
    "two men sit at a table with a laptop",
    "a red ball",
    "a woman in a blue coat",
    "",
    "the the the the",
]
REFERENCES = [
    ["a dog is running on the grass", "a brown dog runs through a field", "the dog runs"],
    ["two men are sitting at a table", "men with a laptop"],
    ["a red ball"],
    ["snow falls on a mountain road"],
    ["a child holds an umbrella", "a child in the rain"],
    ["the cat is on the mat", "a cat lies there"],
]

# Meteor 1.5 through pycocoevalcap 1.2: each caption alone, and the corpus.
METEOR = [
    0.4035028092615153, 0.4116349029260077, 1.0, 0.08175182481751825, 0.0, 0.08791208791208792,
]  # fmt: skip
METEOR_CORPUS = 0.23370284290679066
METEOR_STATISTICS = """\
6.0 3.0 3.0 1.0 2.0 2.0 1.0 1.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 2.0 3.0 3.0
9.0 7.0 5.0 4.0 2.0 2.0 3.0 3.0 1.0 1.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 2.0 6.0 6.0
3.0 3.0 1.0 1.0 2.0 2.0 1.0 1.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 1.0 3.0 3.0
6.0 6.0 3.0 2.0 0.0 0.0 1.0 1.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 1.0 1.0 0.0 0.0 2.0 2.0 2.0
0.0 5.0 0.0 2.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0
4.0 6.0 4.0 4.0 0.0 0.0 2.0 2.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 2.0 2.0 2.0
"""

# What pycocoevalcap 1.2 makes of these under Java 17.
TOKENS = {
    "A man's dog doesn't like the \"red ball\" (maybe).": (
        "a man 's dog does n't like the red ball -lrb- maybe -rrb-"
    ),
    "A black/white t-shirt, size 10.5; costs $12.99 - or 50% off!": (
        "a black/white t-shirt size 10.5 costs $ 12.99 or 50 % off"
    ),
    "He can't go; they'll say it's 5:30 p.m. in the U.S.": (
        "he ca n't go they 'll say it 's 5:30 p.m. in the u.s."
    ),
    "A well-known state-of-the-art thing -- an em—dash and ellipsis…": (
        "a well-known state-of-the-art thing an em dash and ellipsis"
    ),
    "Mr. Smith & co. bought #1 item @ home: ‘quoted’ words...": (
        "mr. smith & co. bought # 1 item @ home quoted words"
    ),
    "Men's U.S. Polo Assn. Blue T-shirt, 2-Pack w/ Logo No. 5": (
        "men 's u.s. polo assn. blue t-shirt 2-pack w / logo no. 5"
    ),
    "Reid&Taylor or AT&T: 1/2 cup, 3-4 people, 1,000 items?!": (
        "reid & taylor or at&t 1/2 cup 3-4 people 1,000 items ?!"
    ),
    "You cannot see the dogs' toys.  They're gonna wanna play": (
        "you can not see the dogs toys they 're gon na wan na play"
    ),
    "a café [inside] {of} the '90s, 7:30": "a café -lsb- inside -rsb- -lcb- of -rcb- the '90s 7:30",
    "!!! ...": "!!!",
}
