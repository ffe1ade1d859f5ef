"""Numbers of four digits that come back, in wordings of all sorts.

The one idea: where a number was read, it can be asked for in any words; so the words vary, and what
is copied is drawn afresh. The sentences by which copying is measured are in `training.pages`.
"""

from __future__ import annotations

from random import Random

from training import world
from training.grammar import write
from training.pages import slots_of

_NOUNS = (
    "shop", "letter", "house", "boat", "table", "door", "page", "wagon", "horse", "chapter", "song",
    "tree", "stone", "barrel", "bottle", "picture", "player", "soldier", "guest", "cow", "ship",
    "street", "garden", "drawer", "field", "window", "parcel", "engine", "tent", "bed",
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


def numbers(random: Random) -> str:
    """One text in which a number comes back."""
    noun = random.choice(_NOUNS)
    slots = {"noun": noun, "Noun": noun.capitalize(), "trade": random.choice(world.TRADES)}
    return write(random.choice(_WORDINGS), random, slots_of(random) | slots)
