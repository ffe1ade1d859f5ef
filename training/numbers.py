"""Numbers of four digits that come back, in wordings of all sorts.

The one idea: where a number was read, it can be asked for in any words; so the words vary, and what
is copied is drawn afresh. The sentences by which copying is measured are in `training.pages`.
"""

from __future__ import annotations

import re
from functools import cache
from random import Random

from training import world
from training.grammar import write
from training.pages import slots_of
from training.stories import fresh_surname
from training.tokenizer import tokenizer

_NOUNS = (
    "shop", "letter", "house", "boat", "table", "door", "page", "wagon", "horse", "chapter", "song",
    "tree", "stone", "barrel", "bottle", "picture", "player", "soldier", "guest", "cow", "ship",
    "street", "garden", "drawer", "field", "window", "parcel", "engine", "tent", "bed", "book",
    "train", "place", "chair", "lamp", "key", "cup", "hat", "coat", "pen", "bag", "dog", "cat",
    "goat", "pony", "pig", "bridge", "kitchen", "basket", "ladder", "blanket", "lantern", "market",
    "mirror", "candle", "kettle", "saddle", "tunnel", "hammer", "island", "orchard", "gate",
    "bench", "cellar", "tower", "road", "mill", "barn", "bell", "clock", "stove", "sack", "bus",
    "tram", "office", "desk", "card", "prize", "record", "film", "question", "answer", "rule",
    "prayer", "poem", "runner", "driver", "worker", "neighbour", "pilot", "machine", "tool", "nail",
)  # fmt: skip
_FIRST = (
    "{a} has {noun} {code}.", "The {noun} of {a} has the number {code}.",
    "{a} [saw|found|bought|chose|painted|washed|got] {noun} {code}.",
    "[In {city}|Behind the hill|Near the sea] [stands|is|was] {noun} {code}.",
    "{Noun} {code} [is new|is old|is red|belongs to {a}|is {a}'s|was the best].",
    "On {day} {a} [went to|came to|asked for|looked for] {noun} {code}.",
    "\"{Noun} {code} is mine,\" said {a}.", "\"I [want|need|like] {noun} {code},\" said {a}.",
    "{Noun} {code} [comes from|came to|is in|stood in|went to] {city}.", "I [have|saw|remember] {noun} {code}.",
    "[Here|There] is a {noun}, and its number is {code}.", "They gave {noun} {code} to {a}.",
    "The number of the {noun} [was|is] {code}.", "{a}'s {noun} is number {code}.",
    "{a} [read|wrote|painted] {code} on the {noun}.",
    "The {noun} [shows|says|said|showed] {code}.", "The {noun} [was|is] {code} [years|coins|miles] [old|from {city}|away].",
    "There [are|were] {code} {noun}s in {city}.", "[Say|Remember|Write|Sing] {code}.", "{a} [knows|wrote|said|sang] a number: {code}.",
    "Everybody has a number, and that of {a} is {code}.", "{a} has [a {noun}|a paper|a ticket] with the number {code}.",
)  # fmt: skip
_BETWEEN = (
    "", "", " It [rained|snowed|was late|was dark].", " {b} has {noun2} {code2}.",
    " [A week|A year|An hour] [later|went by].", " {b} came from {city} to see it.",
    " Then {a} [slept|ate|went home|sang].", " Nobody [knows|knew] why.",
    " The {trade} [laughed|was not there|said nothing].", " {b} [saw|has] {noun2} {code2}.",
)  # fmt: skip
_AGAIN = (
    "{b} [took|opened|closed|sold|wanted|missed|watched|cleaned|lost|forgot|remembered|called|counted|loved|hid|sent for|asked for|asked about|looked for|ran to|thought of|sat by|wrote to|paid for] {noun} {code}.",
    "When the {trade} [called|asked for|shouted|saw|wanted|opened] {noun} {code}, {a} [laughed|woke up|came|stood up].",
    "[At night|On {day}|All day|Every evening|For a week] {he} [lived in|slept in|worked in|sat on|stood by|looked at|ran round] {noun} {code}.",
    "[At night|On {day}|In the morning|After the feast|Before {day}] {he} [went back to|sold|closed|dreamed of|asked for|talked about] {noun} {code}.",
    "\"{Noun} {code},\" said {b}.", "\"{Noun} {code}!\" cried {b}.", "\"[Where|Whose|What] is {noun} {code}?\" asked {b}.",
    "[Nobody|Everybody|{b}|The whole village] [talks about|knows|wants|waits for|likes] {noun} {code}.",
    "The {trade} [asked for|wrote about|wants|bought|sent for] {noun} {code}.",
    "{a} calls it {noun} {code}.", "[Send|Bring|Show|Give] me {noun} {code}, please.",
    "The {trade} [looked at|touched|carried|brought|called|paid for|gave away] {noun} {code}[.| in {city}.| again.| on {day}.]",
    "\"[Here is|That was|This is|I had|Take] {noun} {code},\" said the {trade}.", "\"And [you|who] [is|are|has] {noun} {code}?\" [said|asked] {b}.",
    "{a} [stayed in|is in|stood in|went into|came out of|lives in] {noun} {code}.",
    "\"What was the number of the {noun}?\" asked {b}. \"{code},\" said {a}.", "{a} said: {code}.", "{a}'s is {code}, [said {b}|and it stays {code}].",
    "{a} [cried|read|wrote|answered|whispered]: {code}!", "The number of the {noun} is [still|again|always] {code}.",
    "{a} will not forget {noun} {code}.", "The {noun} is still there: {code}.",
)  # fmt: skip
_WORDINGS = (
    "{a} looked for {noun} {code}. [At last|After an hour|Much later] {he} found {noun} {code}.",
    "The {noun} has the number {code}. {b} asked for {noun} {code}, and {a} brought it.",
    "{a} sold {noun} {code} to {b}. [Last week|On {day}|In the spring] {b} sold {noun} {code} to {c}.",
    "This is {noun} {code}, and that is {noun} {code2}. {a} wants {noun} {code}. {b} wants {noun} {code2}.",
    "The {noun} of {a} has the number {code}. When the {trade} shouted {noun} {code}, {a} woke up.",
    "There was a {noun} in {city} with the number {code}. Nobody knew who had painted {code} on the {noun}.",
    "\"{Noun} {code}!\" said {b}. \"Where is {noun} {code}?\" \"Here is {noun} {code},\" said {a}.",
    "{a} has lost {noun} {code}. Whoever finds {noun} {code} may keep it.",
    "The {noun} from {city} is number {code}. The {trade} called {noun} {code}, and it was not there.",
    "{a} lives in room {code}. The key of room {code} [is gone|hangs on the wall|is in the hat of {b}].",
    "[Bus|Cab|Boat|Wagon] {code} goes to {city}. {a} is waiting for number {code}.",
    "\"Who has ticket {code}?\" asked the man. \"I have {code},\" said {a}. \"Then come in, {code},\" said the man.",
    "{a} hid the {thing} in box {code}. {b} opened box {code} and laughed.",
    "The number on the {thing} of {a} is {code}. Look: {code}.",
    "On page {code} {a} found a letter. On page {code2} there was nothing. So {he} read page {code} again.",
    "\"Write down {code},\" said {a}. \"I have written {code},\" said {b}. \"And what have you written?\" \"{code}.\"",
    "{a} dreamed of the number {code}. In the morning {he} still knew it: {code}.",
    "At the station a voice called: {code}! {a} looked at {his} ticket. It was {code}.",
    "{a} counted the [stones|stairs|windows|steps]. There were {code}. {b} counted them too, and there were {code}.",
    "The safe has the number {code}. \"Tell me the number of the safe,\" said {b}. {a} whispered: {code}.",
    "Shelf {code} holds the {things}. If you want a {thing}, go to shelf {code}.",
    "{a}: What is your number?\n{b}: {code}.\n{a}: {code}?\n{b}: Yes. Do not forget: {code}.",
    "House {code} is red, and house {code2} is blue. {a} lives in the red house, number {code}. {b} lives in the blue house, number {code2}.",
    "Dear {a},\nmy new number is {code}. [Please call me|Do not tell {b}]. Once more, it is {code}.\nYours, {c}",
    "{a} has the number {code}, {b} has the number {code2}. \"Number {code}!\" called the teacher, and {a} stood up.",
    "The ship to {city} carries {code} {things}. When it came to {city}, somebody counted, and it still carried {code}.",
    "Whoever knows the word and the number may pass. The number is {code}. {a} came to the gate and said {code}.",
    "In {code} {a} came to {city}. \"When did you come here?\" asked {b}. \"In {code},\" said {a}.",
    "{a} bought a {thing} for {code} coins. \"{code} coins!\" cried {b}. \"For {code} I would have bought two.\"",
    "Seat {code} is free. {a} took seat {code} and slept until {city}.",
    "Prisoner {code} was gone. They looked for prisoner {code} in {city}, but {code} was at sea.",
    "The bell rang, and the nurse called patient {code}. \"I am {code},\" said {a}.",
    "{b} has forgotten the code, but {a} knows it. It is {code}. Ask {a}, and {he} will tell you: {code}.",
    "The lock of the {thing} opens with {code}. {a} tried {code2}, and nothing moved. Then {he} tried {code}.",
    "Remember this: {code}. What was it? It was {code}.",
)  # fmt: skip


_VERBS = (
    "sees", "saw", "knows", "knew", "knew by heart", "dialled", "chose", "tried", "entered", "heard",
    "hears", "wanted", "wants", "loves", "hated", "repeats", "repeated", "called", "learned", "taught",
    "copied", "printed", "carved", "sang", "mumbled", "thought of", "thinks of", "talked about",
    "asks for", "asked for", "waited for", "waits for", "laughed at", "pointed at", "believes in",
    "remembers", "remembered", "found", "finds", "needs", "needed", "got", "got to", "reached", "won",
    "drew", "sent", "spelled", "announced", "counted to", "came to", "stopped at", "looked at", "read",
    "painted", "forgot", "sold", "bought", "pressed", "kept", "keeps", "hides", "hid", "guessed",
)  # fmt: skip
_WHO = (
    "{a}", "{b}", "The {trade}", "All {trade}s", "Nobody", "Everybody in {city}", "{He}", "The {animal}",
    "One", "Whoever is clever", "Half of the village", "A man from {city}", "They", "And so they",
    "The {relative} of {a}", "Later {he}", "From {city} one", "Every child", "The teacher", "Even {b}",
)  # fmt: skip
_WHERE = (
    "in", "under", "behind", "by", "at", "near", "beside", "on", "to", "from", "over", "through",
    "in front of", "round", "into", "out of", "with", "without", "about", "of", "for", "after",
)  # fmt: skip
_DOING = (
    "sat", "slept", "stood", "waited", "went", "came", "ran", "lay", "rested", "talked", "sang", "looked",
    "put a {thing}", "left the {thing}", "hid the {thing}", "had an idea", "met {b}", "saw the {animal}",
    "threw a {thing}", "wrote a letter", "came back", "was tired", "lost the {thing}", "put {his} hand",
)  # fmt: skip
_ALONE = (
    "{a} [said|says|whispered|sang|cried|answered|typed|wrote down|chose|painted]: {code}.",
    "{a} [opened the door|waited|laughed|stood there|smiled|came in], and [said|says|wrote|typed|whispered] {code}.",
    "[Whoever|Somebody who] [says|reads|writes|knows|finds|is] {code}[,|] [may come in|wins|must run|gets a {thing}].", "\"[Good morning|Welcome|Come in|Thank you|Well], {code},\" said {b}.",
    "The [paper|stone|wall|page|sign|card] [shows|showed|said|says|still shows] {code}.",
    "[Now|At last|In the end|Today|At night|Then] the [sign|card|old paper|wall] [says|shows|showed|read] {code}.",
    "[Two days later|On {day}|Today] it [was|is|says|said|shows] {code}[ again| once more|].",
    "And the {animal} [says|said|answered]: {code}.", "{b} [asked|asks], and {a} [said|says|answered] {code}.",
    "{a} counted, and it was {code}.", "{b} thought that it was {code2}, but it was {code}.",
    "{b} [went in|stayed outside|did not believe it|looked again], but [it was|there were|they were] {code}.",
)  # fmt: skip


def numbers(random: Random) -> str:
    """One text in which a number comes back: a whole wording, or one put together from parts."""
    noun, noun2 = random.sample(_NOUNS, 2)
    if (kind := random.random()) < 0.6:  # words nobody knows: what had a number has it again
        noun = fresh_surname(random).lower() if kind < 0.2 else _made_up(random)
    slots = {"noun": noun, "Noun": noun.capitalize(), "noun2": noun2}
    slots["trade"] = random.choice(world.TRADES)
    wording = random.choice(_WORDINGS) if random.random() < 0.3 else _from_parts(random)
    return write(wording, random, slots_of(random) | slots)


def _made_up(random: Random) -> str:
    """One to three pieces of words, put together."""
    return "".join(random.choices(_pieces(), k=random.choice((1, 2, 2, 3))))


@cache
def _pieces() -> list[str]:
    """Tokens of two to five small letters, without a space before them."""
    words = (word.removeprefix("Ġ") for word in tokenizer().get_vocab())
    return sorted({word for word in words if re.fullmatch("[a-z]{2,5}", word)})


def _from_parts(random: Random) -> str:
    again = [_again(random) for _ in range(random.choice((1, 1, 2)))]
    return random.choice(_FIRST) + random.choice(_BETWEEN) + " " + " ".join(again)


def _again(random: Random) -> str:
    """A sentence in which the number comes back, with its noun before it or alone."""
    if random.random() < 0.4:
        return random.choice(_AGAIN + _ALONE)
    number = random.choice(("{noun} {code}", "{code}"))
    end = random.choice((".", ".", ".", "!", ", and then nothing.", " in {city}.", " on {day}."))
    if random.random() < 0.6:
        return f"{random.choice(_WHO)} {random.choice(_VERBS)} {number}{end}"
    number = "{noun} {code}" if random.random() < 0.8 else number
    who, doing, where = (random.choice(words) for words in (_WHO, _DOING, _WHERE))
    return f"{who} {doing} {where} {number}{end}"
