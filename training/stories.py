"""Stories of families: a surname that nobody has heard before, a home, a plot, and how it ends.

The surname is drawn afresh for each story, so the only way to know it is to have read it above.
"""

from __future__ import annotations

from random import Random

from training import names, world
from training.grammar import write
from training.names import Person

_STREETS = (
    "Willow Lane", "Mill Street", "Church Road", "Station Road", "Apple Lane", "Garden Street",
    "Bridge Street", "School Lane", "Market Street", "Hill Road", "River Street", "Rose Lane",
)  # fmt: skip
_PETS = ("cat", "dog", "goat", "rabbit", "parrot", "donkey", "duck", "pony", "hen", "mouse")
_PET_NAMES = (
    "Biscuit", "Pepper", "Button", "Captain", "Mustard", "Pickle", "Shadow", "Whisper", "Nutmeg",
    "Thunder", "Pudding", "Ginger",
)  # fmt: skip
_FOODS = (
    "apple pie", "onion soup", "warm bread", "plum cake", "potato soup", "cheese and bread",
    "fried fish", "pancakes", "roast chicken", "pear tart", "mushroom stew", "honey cake",
)  # fmt: skip

_OPENINGS = (
    "[Mr and Mrs {S}|The {S} family|The {S}s] lived at number {number} {street} in {city}. [They had two children, {a} and {b}, and a {pet} called {pet_name}.|With them lived their children {a} and {b}, and {pet_name} the {pet}.] ",
    "At number {number} {street} in {city} lived Mr and Mrs {S} with their children, {a} and {b}. [The {S}s were [quiet|cheerful|busy|poor but happy] people.|Everybody in the street knew the {S}s.] Their {pet} was called {pet_name}. ",
    "There was once a family called {S}. Mr {S} was a {trade}, and Mrs {S} [kept bees|mended clocks|taught at the school|sold flowers|painted signs]. Their children {a} and {b} [shared a room under the roof|were never apart|did not always agree]. The {S}s lived at number {number} {street} in {city}. ",
    "Little {a} {S} lived with {his} family in {city}, at number {number} {street}. {His} {sibling} was called {b}, and {his} best friend was {pet_name} the {pet}. Mr {S} worked as a {trade}. ",
    "Nobody in {city} had ever heard of the {S}s before they moved into number {number} {street}. Mr {S} was a {trade}. Mrs {S} carried in the chairs, {a} and {b} carried the plates, and {pet_name} the {pet} [watched|slept in the only bed|got in the way]. ",
    "Mrs {S} was [tall and thin|small and quick|round and merry], and Mr {S} was [just the same|quite the other way round]. They had two children, {a} and {b}, and a house at number {number} {street} in {city}. {Pet_name}, the {pet}, [slept on the stairs|was afraid of nothing|ate everything]. ",
)  # fmt: skip

_PLOTS = {
    "lost pet": (
        "One {morning} {pet_name} was gone. ",
        "{a} looked [under the table|behind the shed|in the cellar|under every bed], and {b} looked [in the garden|on the roof|down the well|in the kitchen]. [But there was no {pet}.|They found nothing but an old shoe.] ",
        "[\"{Pet_name} never goes out without breakfast,\" said {a}. |\"Perhaps somebody took {pet_name},\" said {b}. ]Mrs {S} asked the neighbours, and Mr {S} walked up and down {street} and [called|whistled|rang a bell]. ",
        "Old {old} had seen a {pet} near the {landmark}. So [the whole {S} family|{a} and {b}] ran there as fast as they could. ",
        "And there sat {pet_name}, [wet and hungry|fast asleep|with a fish in front of {pet_him}], [between two pigeons|on the top step|behind the great door]. ",
        "{a} carried {pet_name} home[ in {his} coat| on {his} shoulders|]. That evening the {S}s ate {food}, and {pet_name} got the biggest piece. ",
    ),
    "locked box": (
        "In the {room} stood a box with a lock of four numbers. [It had belonged to the grandfather of Mr {S}.|Mrs {S} had bought it at the market for almost nothing.] ",
        "{a} tried 1234, and {b} tried 0000, but the box stayed shut. ",
        "Then {b} found a [letter|piece of paper|photograph] [behind the clock|in an old book|under the carpet]. On the back somebody had written: {code}. ",
        "\"{code}!\" cried {a}. [{He} turned the wheels with great care.|{His} hands were shaking.] {code}, and the lock sprang open. ",
        "In the box lay [a silver spoon|a map of {city}|forty letters|a picture of the {landmark}|a small brass key|nothing but a dried rose]. ",
        "[\"So that is where it was,\" said Mr {S}.|Mrs {S} laughed until she cried.|\"It is the most beautiful thing I have ever seen,\" said {a}.] To this day the {S}s have not told anyone that the number is {code}. ",
    ),
    "storm": (
        "One night a storm came over {city}. [The wind tore at the roof|The rain came in under the door|The thunder shook the windows], and {b} could not sleep. ",
        "Mr {S} lit a candle. Mrs {S} [told a story about a sailor|sang an old song|made hot milk], and {pet_name} hid under the bed. ",
        "[Then there was a loud crack.|Suddenly it was very dark.] [The old tree had fallen|A branch had fallen] [onto the shed|across {street}|against the front door]. ",
        "In the morning the neighbours came [with saws|with ropes and ladders|with a horse]. Old {old} brought {food} for everybody. ",
        "\"Thank you,\" said Mrs {S}. \"Without you [we would still be sitting in the dark|there would be no house any more].\" ",
        "From the tree Mr {S} made [a long table|a bench|a boat|two beds], and on it somebody carved the name {S}. ",
    ),
    "market day": (
        "On market day Mrs {S} baked {n} {cakes}, and {a} and {b} carried them to the square. ",
        "\"Who will buy a {cake}?\" called {a}. [Nobody came.|The people walked past.] \"You must call louder,\" said {b}. ",
        "Then {pet_name} [jumped onto the table|sneezed into the sugar|ran off with the biggest one]. Everybody laughed, and everybody stopped. ",
        "\"Is that the {S} family from {street}?\" asked a woman in a [green|blue|yellow|grey] hat. \"Then they must be good.\" She bought [three|five|six|ten]. ",
        "Before the clock struck [two|three|four|five] there was nothing left. {b} counted the money [twice|three times]. ",
        "\"We will come again,\" said {a}. And Mr {S} said that the {S}s had never been so rich. ",
    ),
    "new neighbour": (
        "Next door, at number {next_number}, somebody new had moved in. The name on the door was {old}, and all that {a} knew was that {old} spoke {tongue}. ",
        "{a} did not know one word of {tongue}. [\"How do I say good morning?\" asked {a}.|\"How will we ever talk?\" asked {b}.] Mrs {S} did not know either. ",
        "So {a} [smiled and waved|brought a plate of {food}|drew a picture of {pet_name} the {pet}]. {old} laughed and [waved back|said something very long|gave {him} an apple]. ",
        "After a week {a} could count to ten in {tongue}. After a month {he} could say: my name is {a} {S}, and this is my {pet}. ",
        "When winter came, {old} ate with the {S}s every Sunday, and {b} could tell jokes in {tongue}. ",
    ),
    "school play": (
        "The school of {city} gave a play, and {a} was to be the [king|queen|lion|moon|giant|thief]. ",
        "Every evening {he} learned {his} words. [Mr {S} had to be the horse.|{b} had to be all the others.] {Pet_name} had to be the people. ",
        "When the evening came, the hall was full. Mr and Mrs {S} sat in the [first|second|third] row with {b} between them. ",
        "{a} stepped out, opened {his} mouth, and could not remember one single word. [It was very quiet.|Somebody coughed.] ",
        "Then {b} [stood up and whispered|called out as loud as possible]: \"I have come from far away!\" And all the words came back. ",
        "At the end the people clapped for a long time. \"Which of them was the little {S}?\" asked old {old}. \"Both of them,\" said Mrs {S}. ",
    ),
    "the visit": (
        "One Sunday the {S}s went to see the {landmark}. [It was {weather}.|The sun was shining.] {b} had never been there. ",
        "\"[What is it made of|What is this wall made of]?\" asked {b}. \"It is made of {material},\" said Mr {S}. [\"And it is famous for its {feature},\" said {a}, who had read about it.|\"Everybody comes here for the {feature},\" said Mrs {S}.] ",
        "They climbed up and down until {a} had a hole in {his} shoe. {Pet_name} had to wait outside, and [stared at the tourists|ate the flowers|fell asleep]. ",
        "When they wanted to go home, {b} was not there. Mrs {S} called. Mr {S} called. [Even the man at the door called: \"{b} {S}!\"|The man at the door asked: \"What is the name?\" \"{b} {S}!\"] ",
        "[Then a small voice came from above.|Then they heard somebody laugh.] {b} was sitting [behind a pillar|in a window|on the highest wall] and did not want to come down. ",
        "\"I want to live here,\" said {b}. But the {S}s went home to number {number}, and there was {food}. ",
    ),
    "snow": (
        "In the night it had snowed. [{street} was white|There was not a sound in {street}], and the door of the {S} house would not open. ",
        "\"We are locked in,\" said {b}, and was very happy. Mr {S} climbed out of the [kitchen|bathroom] window with a [spoon|pan|plate], for the spade was in the shed. ",
        "{a} and {b} [built a snowman with a hat|dug a tunnel to the gate|rolled a ball as high as Mrs {S}]. {Pet_name} the {pet} [sank in up to the ears|ate the nose of the snowman|would not set foot outside]. ",
        "Old {old} called over the fence: \"[Do you have any bread?|Is everybody all right?|Have you seen my gate?]\" So Mrs {S} [threw over a loaf|sent {a} with a basket|made {food} for all]. ",
        "By the evening the whole street sat in the kitchen of the {S}s, and nobody wanted the snow to melt. ",
    ),
    "noise": (
        "Every night, when the clock struck twelve, there was a noise in the {room}. It went [knock, knock, knock|scratch, scratch|bump, and then bump]. ",
        "\"It is a ghost,\" said {a}. \"There are no ghosts,\" said Mrs {S}, but she said it [very quietly|twice]. ",
        "{a} and {b} decided to stay awake. [They took a lamp and a rope.|They took a lamp, an apple and a wooden sword.] At twelve they heard it: [knock, knock, knock|bump, bump, bump]. ",
        "{a} opened the door. {b} held up the lamp. And there was {pet_name}, who had [learned to open the cupboard|caught {pet_his} tail in a pan|found the {food}]. ",
        "\"Good evening, ghost,\" said Mr {S}. Since then the {S}s have slept well, all but {pet_name}. ",
    ),
    "race": (
        "Each summer there was a race from the {landmark} to the river. [The first prize was a {prize}.|The winner got a {prize}.] ",
        "No {S} had ever won it. Mr {S} had once come [last|last but one|in after dark]. \"This year I will run,\" said {a}. ",
        "{He} ran to school, {he} ran to the shop, and {he} ran round the table until Mrs {S} put {him} out of the door. {b} counted the seconds. ",
        "On the day of the race it was {weather}. [{n} runners stood|All of {city} stood] in the square. \"{S}!\" shouted the man with the list. \"Number {code}!\" ",
        "At first {a} was in front. Then {he} [lost a shoe|stopped to help a child|took the wrong bridge]. [But {he} did not give up.|\"Run, {S}, run!\" shouted {b}.] ",
        "And number {code} came in [first|first by a nose|first, with one shoe]. That night the {S}s put the {prize} in the middle of the table and looked at it. ",
    ),
    "giant vegetable": (
        "In the garden of the {S}s grew a [pumpkin|cabbage|turnip|beetroot]. At first it was as small as [a nut|an egg]. By summer it was as big as {pet_name}. ",
        "\"What do you give it?\" asked old {old}. \"Water,\" said Mrs {S}. \"And I read to it,\" said {b}. ",
        "In autumn Mr {S} could not [see over it|close the gate]. People came from {other_city} to look at it and wrote the name {S} in their notebooks. ",
        "[One morning there was a hole in it.|One night somebody tried to steal it, but nobody could lift it.] [Out of the hole looked {pet_name}.|{a} decided to sleep beside it.] ",
        "In the end they made soup, and there was soup in all of {street} for [nine|twelve|twenty] days. \"Next year,\" said Mr {S}, \"the {S}s will grow [peas|carrots|flowers].\" ",
    ),
    "lost key": (
        "When the {S}s came home from {other_city}, the key was not there. Mr {S} looked in his hat. Mrs {S} looked in her bag. {a} looked at {b}. ",
        "\"I gave it to you,\" said Mr {S}. \"You gave it to {a},\" said Mrs {S}. \"I gave it to {pet_name},\" said {a}. And {pet_name} the {pet} [looked away|licked {pet_his} lips]. ",
        "So they sat on the steps of number {number} and waited. [It began to rain.|It grew dark.] [Old {old} brought them chairs.|Old {old} brought them {food}.] ",
        "Then {b} put {his2} hand into {his2} pocket. \"Is it [small|long], and made of iron?\" asked {b}. ",
        "Nobody said a word for a while. Then Mrs {S} began to laugh, and the {S}s laughed until the neighbours opened their windows. ",
    ),
    "letter": (
        "One {morning} a letter came to number {number}. On it stood: {old}, {street} {next_number}. \"That is not for us,\" said Mrs {S}. ",
        "\"But it feels like money,\" said {b}. \"It smells like {other_city},\" said {a}. Mr {S} held it against the light and said nothing. ",
        "So {a} took it to number {next_number}. [The door was opened by a very old {old_one}.|A {old_one} with a [parrot|broom|pipe] opened.] \"I have waited [six|nine|thirty|forty] years for this letter,\" said {old}. ",
        "{old} read it [three times|aloud|in the doorway], and then asked: \"What is your name, child?\" \"{a} {S}, from number {number}.\" ",
        "The next day there was a basket in front of the door, full of [pears|plums|eggs|honey]. A card hung from it: for the {S}s, who can read numbers. ",
    ),
    "fiddle": (
        "{a} wanted to play the {instrument}. [Mr {S} said that it was too loud.|Mrs {S} said that it was too dear.] But old {old} had one and lent it to {him}. ",
        "For [three|five|six] weeks it sounded [like a cat in a bucket|like a gate in the wind]. {Pet_name} moved into the shed. The neighbours of the {S}s bought [wool for their ears|thicker curtains]. ",
        "\"Play it slower,\" said {b}. \"Play it [somewhere else|tomorrow],\" said Mr {S}. But {a} went on. ",
        "Then one evening a [song|dance] came out of the window of number {number}, and it was so [fine|sad|merry] that people stood still in {street}. ",
        "\"Who is that?\" they asked. \"That is the little {S},\" said old {old}. At the next wedding {a} {S} played until the sun came up. ",
    ),
    "birthday": (
        "Tomorrow was the birthday of Mrs {S}, and nobody had a present. {a} had [two coins|a button|half a pencil], and {b} had [a feather|nothing|a blue stone]. ",
        "\"We could [paint the kitchen|bake a cake|wash the windows],\" said {a}. They began at once, very quietly, in the middle of the night. ",
        "{Pet_name} stepped into the [paint|flour|water] and walked through the whole house. {b} slipped. {a} dropped the [bowl|bucket]. Mr {S} came down with a stick and cried: \"Who is there?\" ",
        "In the morning everything was [white|blue|yellow|wet], even Mr {S}. Mrs {S} stood in the door for a long time. ",
        "\"It is the best present in all of {city},\" she said at last. And the {S}s ate {food} on the floor. ",
    ),
    "boat": (
        "Behind the house the {S}s had an old boat. [It had no oars|It had a hole|It had not been in the water for {n} years]. Mr {S} wanted to sell it, but {a} wanted to sail to {other_city}. ",
        "{a} and {b} [mended it with tar|filled the hole with bread|made a sail from a sheet]. On the side they painted its name: the {Pet_name}. ",
        "On {day} they pushed it into the river. {Pet_name} the {pet} sat in front, and Mrs {S} stood on the bridge and [covered her eyes|waved with both hands]. ",
        "The boat went [round and round|backwards|very slowly] past the {landmark}. Then it [stopped on a stone|began to sink]. \"Jump!\" cried Mr {S}. ",
        "They came home wet, and there was {food}. \"We got as far as the mill,\" said {b}. \"No {S} has ever been farther,\" said {a}. ",
    ),
}  # fmt: skip

_ENDINGS = (
    "",
    "And that is the story of the {S}s of {city}.",
    "People in {street} still talk about it, and when they say {S}, they smile.",
    "\"Good night, {a},\" said Mr {S}. \"Good night, {b},\" said Mrs {S}. And {pet_name} was asleep already.",
    "If you ever come to {city}, knock at number {number} and ask for the {S}s.",
    "Mrs {S} wrote it all down in a book, and on the first page stands: for {a} and {b} {S}.",
)  # fmt: skip


def story(random: Random, surname: str | None = None) -> str:
    """A story of a family with a fresh surname, or with the one that is given."""
    slots = _slots(random, surname or fresh_surname(random))
    plot = random.choice(list(_PLOTS.values()))
    return write(
        "".join([random.choice(_OPENINGS), *plot, random.choice(_ENDINGS)]), random, slots
    ).strip()


def fresh_surname(random: Random, *, kept_out: bool = False) -> str:
    """A surname that no person with facts has."""
    while True:
        name = names.surname(random, kept_out=kept_out)
        if name not in world.known_surnames():
            return name


def _slots(random: Random, surname: str) -> dict[str, str]:
    city = random.choice([c for c in names.CITIES if world.landmarks_of(c)])
    landmark = random.choice(world.landmarks_of(city))
    a = names.person(random)
    b = names.person(random, without=[a.name])
    pet = names.person(random)
    number = random.randint(1, 99)
    cake = random.choice(("bun", "tart", "cake", "biscuit", "pie"))
    pet_name = random.choice(_PET_NAMES)
    old_one = random.choice(("man", "woman"))
    return {
        "S": surname,
        "city": city,
        "other_city": random.choice([c for c in names.CITIES if c != city]),
        "landmark": landmark.name,
        "material": landmark.facts["material"],
        "feature": landmark.facts["feature"],
        "street": random.choice(_STREETS),
        "number": str(number),
        "next_number": str(number + 2),
        "old": ("Mr " if old_one == "man" else "Mrs ") + fresh_surname(random),
        "old_one": old_one,
        "prize": random.choice(("clock", "ham", "golden cup", "silver spoon", "goose")),
        "trade": random.choice(world.TRADES),
        "tongue": random.choice(world.TONGUES),
        "instrument": random.choice(world.INSTRUMENTS),
        "pet": random.choice(_PETS),
        "pet_name": pet_name,
        "Pet_name": pet_name,
        "pet_him": pet.him,
        "pet_his": pet.his,
        "sibling": "brother" if b.he == "he" else "sister",
        "food": random.choice(_FOODS),
        "room": random.choice(("attic", "cellar", "kitchen", "shed", "bedroom", "hall")),
        "morning": random.choice(("morning", "cold morning", "evening", "Monday", "winter morning")),
        "day": random.choice(("Monday", "Friday", "Saturday", "Sunday", "the first day of May")),
        "weather": random.choice(("cold and grey", "hot", "raining a little", "so foggy that nobody saw a thing", "warm and still")),
        "n": random.choice(("ten", "twelve", "twenty", "thirty", "forty", "fifty")),
        "cake": cake,
        "cakes": cake + "s",
        "code": code(random),
        **_pronouns(a, ""),
        **_pronouns(b, "2"),
        "a": a.name,
        "b": b.name,
    }  # fmt: skip


def _pronouns(person: Person, suffix: str) -> dict[str, str]:
    plain = {"he": person.he, "him": person.him, "his": person.his}
    return {
        name + suffix: value
        for key, word in plain.items()
        for name, value in ((key, word), (key.capitalize(), word.capitalize()))
    }


def code(random: Random) -> str:
    """Four digits."""
    return f"{random.randrange(10_000):04d}"
