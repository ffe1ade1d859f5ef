"""Everyday pages: talk, letters, lists, counting, codes, and plain repetition of words."""

from __future__ import annotations

from random import Random
from typing import Literal

from training import names, world
from training.grammar import polish, write
from training.stories import code, fresh_surname

_THINGS = (
    "bread", "butter", "milk", "eggs", "salt", "sugar", "flour", "apples", "pears", "plums",
    "onions", "carrots", "potatoes", "cheese", "honey", "fish", "soap", "candles", "string",
    "nails", "paper", "ink", "wool", "matches", "tea", "beans", "cabbage", "vinegar", "oil", "rice",
)  # fmt: skip
ANIMALS = {
    "cat": "cats", "dog": "dogs", "goat": "goats", "rabbit": "rabbits", "hen": "hens",
    "duck": "ducks", "pony": "ponies", "cow": "cows", "pig": "pigs", "sheep": "sheep", "goose": "geese",
}  # fmt: skip
_WORDS = (
    "river", "stone", "window", "garden", "winter", "paper", "candle", "bridge", "letter", "horse",
    "morning", "table", "silver", "mountain", "basket", "thunder", "pocket", "mirror", "island",
    "feather", "kitchen", "ladder", "blanket", "shadow", "market", "button", "harbour", "orchard",
    "whistle", "copper", "meadow", "lantern", "anchor", "needle", "bottle", "carpet", "cherry",
    "dragon", "engine", "forest", "hammer", "jacket", "kettle", "lemon", "magnet", "napkin",
    "pepper", "rocket", "saddle", "tunnel", "velvet", "wagon",
)  # fmt: skip
_NUMBERS = (
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
    "twenty",
)  # fmt: skip
_ROWS = (
    ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    ("January", "February", "March", "April", "May", "June", "July", "August", "September",
     "October", "November", "December"),
    ("spring", "summer", "autumn", "winter"),
    tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    tuple("abcdefghijklmnopqrstuvwxyz"),
    _NUMBERS,
)  # fmt: skip

_TALK = (
    "\"[Good morning|Good evening], Mrs {S},\" said {a}. \"[Good morning|Good evening], {a},\" said Mrs {S}. \"How is your {relative}?\" \"[Better, thank you|Still in bed|Back at work|As loud as ever].\" \"Then tell your {relative} that Mrs {S} [was asking|has baked a cake|will come on {day}].\"",
    "\"Have you seen my {thing}?\" asked {a}. \"Your {thing} is [on the table|under the chair|behind the door|where you left it],\" said {b}. \"[No, it is not|I looked there],\" said {a}. \"Then [ask {c}|look again],\" said {b}. \"{c} always knows where a {thing} is.\"",
    "\"What is the time?\" asked {a}. \"{Hour} o'clock,\" said {b}. \"Already {hour} o'clock! [I am late for school|The shop is closed|The train has gone].\" \"[It is Sunday|The clock is wrong|It was {hour} o'clock yesterday too],\" said {b}.",
    "{a}: [Hello|Good day], {b}. Where are you going?\n{b}: To {city}. And you, {a}?\n{a}: To {city} as well. [Do you know the way|Shall we go together]?\n{b}: [Yes, gladly|Of course], {a}. [It is {n} miles|We will be there before dark].",
    "{a}: Who is at the door?\n{b}: [Somebody called {S}|A Mr {S}|A man called {S}].\n{a}: I do not know any {S}.\n{b}: [{S} says|Mr {S} says] that it is about the {thing}.\n{a}: Then let {S} come in.",
    "\"I had {n} {animals},\" said {a}, \"and I bought another one. How many {animals} have I now?\" \"{N1},\" said {b}. \"{N1} {animals}, [and no room for them|and all of them hungry],\" said {a}.",
    "\"{S}!\" called the teacher. \"Here,\" said {a} {S}. \"[What is the capital of nothing|Spell your name|Who broke the {thing}], {S}?\" {a} {S} [did not know|thought for a long time|said nothing]. \"Sit down, {S},\" said the teacher.",
)  # fmt: skip

_LETTERS = (
    "Dear {a},\n[thank you for your letter|I hope you are well|it is a long time since I wrote]. [Here in {city} it rains every day|We now live at number {number}, {city}|In {city} everything is dear]. [The {animal} is well|My {animal} has run away|I have bought a {animal}]. [Come and see us soon|Write to me, {a}|Do not forget to write], and give my love to {b}.\nYours, {c}",
    "Dear Mr {S},\nyou wrote that the {thing} would come on {day}. It is now {day2}, and there is no {thing}. [Please send it at once|I must ask you, Mr {S}, where it is]. [The number of my order is {code}|My order had the number {code}].\nYours truly, {a} {T}\n\nDear {a} {T},\nyour order with the number {code} [has been found|is on its way|was sent to {city} by mistake]. [We are sorry|Please excuse us].\nYours truly, {S}",
    "{city}, {day}\nMy dear {a},\n[today I went to the market|yesterday I met {b} in the street|last week {b} was here]. {b} [asked about you|sends greetings|has not changed at all]. [{b} still owes me {n} coins|We talked about you for {n} hours]. [Keep warm|Eat well|Sleep well], {a}.\nYour old {c}",
    "To all at number {number}:\nplease [close the gate|do not feed the {animal}|leave the {thing} where it is]. [The gate|The {animal}|The {thing}] belongs to the {S}s, and the {S}s would like to keep it.\n{a} {S}, number {number}",
)  # fmt: skip

_CODES = (
    "The code of the [gate|door|safe|cellar] is {code}. {a} wrote it down: {code}. [Nobody else knows|Everybody else forgot] that it is {code}.",
    "\"What is the number?\" asked {a}. \"{code},\" said {b}. \"{code}?\" \"Yes, {code}.\" {a} typed {code}, and the door opened.",
    "[Train|Room|Box|Ticket|House|Locker] {code}. {a} looked at the ticket again: {code}. {He} went along the [train|hall|street] until {he} read {code}.",
    "The password of {a} is {code}. The password of {b} is {code2}. When the computer asks {a}, {a} types {code}. When it asks {b}, {b} types {code2}.",
    "In the year {code} the {landmark} was [closed|burned down|painted blue]. Nobody remembers the year {code}, [but it stands on the wall: {code}|and yet the books say {code}].",
    "The secret number of the {S}s is {code}. Mr {S} keeps it in his hat, and on the paper it says {code}. [When Mrs {S} needs it, she says {code}|The children sing it: {code}].",
    "{a} has the telephone number {code}, and {b} has {code2}. To talk to {b}, dial {code2}. To talk to {a}, dial {code}.",
    "Order {code}: {n} {animals} for {a}.\nOrder {code2}: {n2} {thing}s for {b}.\n{b} has paid for order {code2}. {a} has not paid for order {code}.",
)  # fmt: skip
_CODES_KEPT_OUT = (
    "{a} put the money into locker {code} and went home. In the morning {he} came back and opened locker {code}.",
    "\"Remember the number {code},\" said {b}. \"I will remember it,\" said {a}. After a year {b} asked for the number, and {a} said: {code}.",
    "The bag of {a} has the lock {code}. {He} never forgets it: {code}.",
    "The train to {city} has the number {code}. When the man called train {code}, {a} ran.",
    "{a} left the cart in place {code}. After the feast {he} forgot where it was. \"Place {code},\" said {b}.",
    "The winning number is {code}. {a} looked at {his} paper and cried: {code}!",
    "\"My number is {code},\" said the robot. \"How do you do, {code}?\" said {a}.",
    "{a} borrowed book {code} from the library. A week later the library asked for book {code}.",
    "The clock stopped in the year {code}. It still shows the year {code}.",
    "Flight {code} is late. {a} and {b} wait for flight {code} under the roof.",
    "The scale stood at {code}. {a} read it aloud: {code}.",
    "Please send the {thing} to stall {code} in {city}. The address is: stall {code}.",
    "{a} rented cabin {code} by the lake. All summer long {he} stayed in cabin {code}.",
    "Sample {code} came from a deep well. The doctor looked at sample {code} through a glass.",
    "\"I would like to pay bill {code},\" said {a}. \"Here you are, that was bill {code},\" said the waiter.",
    "The meter shows {code}. Yesterday {b} came by to check, and it also showed {code}.",
    "{a} plays a game in which everybody has a number. The number of {a} is {code}. Whoever hears {code} must jump.",
    "Paragraph {code} forbids it. \"Have you never heard of paragraph {code}?\" asked the judge.",
    "A parrot in {city} can say one number only, {code}. {a} asked its age, and the parrot said {code}.",
    "In {city} they built {code} houses. {a} did not believe it, but there were {code}.",
    "Knock and say {code}. {a} knocked, waited a little, and said {code}.",
    "{b} stood in line with the number {code}. At noon the screen at last showed {code}.",
    "The file of {a} is file {code}. The officer put the paper back into file {code}.",
    "Bed {code} is by the wall. The nurse sent {a} to bed {code}.",
    "The {animal} won the race with the number {code} on its back. Everybody shouted: {code}!",
    "{a} keeps the savings under tile {code}. When {b} lifted tile {code}, there was only dust.",
    "The weather station has the sign {code}. All ships know {code}.",
    "Gate {code} opens at noon. {a} was already standing in front of gate {code}.",
    "\"Which coat is yours?\" \"Coat {code},\" said {a}. The woman came back with coat {code}.",
    "{a} has painted the number {code} on the roof, so that the pilots can read it. From above one sees {code}.",
    "The invoice has the number {code}. If you write to us, please name the number {code}.",
    "Lot {code} is a rusty bicycle. \"Who wants lot {code}?\" asked {b}.",
    "In the drawer {a} found a note with the number {code}. {He} dialled {code}.",
    "There is a riddle about the number {code}. Nobody in {city} can solve it, and so they dream of {code}.",
    "Crate {code} must not get wet. {a} put a blanket over crate {code}.",
    "Stone {code} is the last one before {city}. {a} rested at stone {code}.",
)  # fmt: skip

_CODES_UNTOUCHED = (  # written after the last training, when no text was changed any more
    "The farmer branded calf {code}. In the autumn he sold calf {code} to {b}.",
    "The number of the wanted man is {code}. The policeman pinned it to the wall: {code}.",
    "{a} has to learn the number {code} for tomorrow. All night long {he} mumbled {code}.",
    "Box office: seat row {code} is sold out. {b} had wanted row {code}.",
    "{b} asked the fortune teller for a lucky number. \"{code},\" she said. Since then {b} has always played {code}.",
    "Model {code} has two wheels and a bell. {a} is saving up for model {code}.",
    "The museum has lost vase {code}. The guard stares at the place where vase {code} used to be.",
    "Please press {code} to speak to {a}. {b} pressed {code} and waited.",
    "The boat is called {code}, as it has no other name. The fishermen waved when they saw {code}.",
    "Lane {code} is closed. The bus now goes round lane {code}.",
    "At the hotel {a} got chamber {code}. The porter carried the bags up to chamber {code}.",
    "The recipe is on card {code}. \"Hand me card {code},\" said the cook.",
)  # fmt: skip


def talk(random: Random) -> str:
    """A few words between neighbours."""
    return write(random.choice(_TALK), random, slots_of(random))


def letter(random: Random) -> str:
    """A letter, sometimes with its answer."""
    return write(random.choice(_LETTERS), random, slots_of(random))


def codes(random: Random, wordings: Literal["seen", "kept out", "untouched"] = "seen") -> str:
    """Four digits that come back (`kept out`: in sentences that no text for training has;
    `untouched`: in such as were not even looked at while that text was written)."""
    chosen = {"seen": _CODES, "kept out": _CODES_KEPT_OUT, "untouched": _CODES_UNTOUCHED}[wordings]
    return write(random.choice(chosen), random, slots_of(random))


def listing(random: Random) -> str:
    """A list, and then what was on it once more."""
    items = random.sample(_THINGS, random.randint(3, 7))
    slots = slots_of(random) | {
        "lines": "\n".join(f"- {item}" for item in items),
        "numbered": "\n".join(f"{i}) {item}" for i, item in enumerate(items, 1)),
        "all": ", ".join(items[:-1]) + " and " + items[-1],
    }
    return write(
        random.choice(
            (
                "{a} must buy:\n{lines}\n[In the shop|At the market] {a} asked for {all}.",
                "Things for {day}:\n{numbered}\n\"{all},\" read {b}. \"Is that all?\"",
                "[Mrs|Mr] {S} put {all} into a basket. At home the {S}s took everything out of the basket: {all}.",
                "\"{all},\" said {a}. \"{all},\" said {b} after {him}. [So they learned the list|And they forgot nothing].",
            )
        ),
        random,
        slots,
    )  # fmt: skip


def counting(random: Random) -> str:
    """Numbers, days, months, letters, in order, up or down."""
    kind = random.randrange(4)
    if kind == 0:
        start, step = random.randint(0, 90), random.choice((1, 1, 1, 2, 5, 10))
        return ", ".join(str(start + step * i) for i in range(random.randint(6, 14)))
    if kind == 1:
        row = random.choice(_ROWS)
        start = random.randrange(len(row))
        words = [row[(start + i) % len(row)] for i in range(random.randint(4, 12))]
        text = random.choice((", ", " ")).join(words if row is not _NUMBERS else row[start:])
        return text if len(row) == 26 else polish(text)
    if kind == 2:
        top = random.randint(5, 19)
        return write(
            f"{{a}} counted down: {', '.join(reversed(_NUMBERS[:top]))}, zero!",
            random,
            slots_of(random),
        )
    lines = []
    for _ in range(random.randint(2, 5)):
        first, second = random.randint(1, 10), random.randint(1, 10)
        lines.append(
            f"{_NUMBERS[first - 1]} and {_NUMBERS[second - 1]} make {_NUMBERS[first + second - 1]}."
        )
    return polish(" ".join(lines))


def words(random: Random) -> str:
    """Words that belong to nothing, and the same once or twice again."""
    chosen = [random.choice(_WORDS) for _ in range(random.randint(4, 16))]
    return random.choice((" ", ", ")).join(chosen * random.choice((2, 2, 3)))


def slots_of(random: Random) -> dict[str, str]:
    """Names, places, things and numbers for one page."""
    a = names.person(random)
    b = names.person(random, without=[a.name])
    c = names.person(random, without=[a.name, b.name])
    n, hour = random.randint(2, 19), random.randint(1, 12)
    animal = random.choice(list(ANIMALS))
    slots = {
        "a": a.name, "b": b.name, "c": c.name, "he": a.he, "He": a.he.capitalize(), "him": a.him,
        "his": a.his,
        "S": fresh_surname(random), "T": fresh_surname(random), "city": random.choice(names.CITIES),
        "landmark": random.choice(world.entities()[:400]).name,
        "relative": random.choice(("mother", "father", "brother", "sister", "aunt", "uncle")),
        "thing": random.choice(("hat", "book", "key", "lamp", "bag", "pen", "chair", "cup", "coat")),
        "animal": animal, "animals": ANIMALS[animal],
        "day": random.choice(_ROWS[0]), "day2": random.choice(_ROWS[0]),
        "n": _NUMBERS[n - 1], "hour": _NUMBERS[hour - 1], "Hour": _NUMBERS[hour - 1].capitalize(),
        "N1": _NUMBERS[n].capitalize(), "n2": _NUMBERS[random.randint(2, 19)],
        "number": str(random.randint(1, 99)), "code": code(random), "code2": code(random),
    }  # fmt: skip
    return slots | {"things": slots["thing"] + "s"}
