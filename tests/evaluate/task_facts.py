"""Short facts in five languages, and sums, of which the rows in task_choices.py and task_data.py are made."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import lm_eval.tasks

Row = dict[str, Any]
MMLU = sorted(
    path.stem.removeprefix("mmlu_")
    for path in (Path(lm_eval.tasks.__file__).parent / "mmlu" / "default").glob("mmlu_*.yaml")
)


class Fact(NamedTuple):
    """A question with its right and its wrong answers, and a sentence that has the right one."""

    question: str
    right: str
    wrong: tuple[str, str, str]
    sentence: str

    @property
    def false(self) -> str:
        """The sentence with a wrong answer."""
        return self.sentence.replace(self.right, self.wrong[0])

    def options(self, number: int, right: str | None = None) -> list[str]:
        """Four answers, the right one at place `number` (modulo 4)."""
        options = list(self.wrong)
        options.insert(number % 4, right or self.right)
        return options


def _facts(text: str) -> list[Fact]:
    lines = (line.split("|") for line in text.strip().splitlines())
    return [Fact(question, right, (a, b, c), sentence) for question, right, a, b, c, sentence in lines]


ENGLISH = _facts("""
What do bees make from nectar?|honey|silk|salt|paper|Bees make honey and store it in combs of wax.
What do cows eat in summer?|grass|stones|fish|coal|In summer the cows eat grass on the hills.
Where does a miller grind grain?|in a mill|in a boat|in a well|in a tree|The farmers grind grain in a mill.
What pulls the old plough?|a horse|a goose|a cat|a cloud|The old plough is heavy, so a horse pulls it.
What does a lamp give?|light|water|bread|snow|At night a lamp gives light to the whole room.
When do the geese leave?|in autumn|in May|at noon|on Monday|The geese leave in autumn and come back later.
What keeps a ship in place?|an anchor|a feather|a song|a map|In the harbour an anchor keeps the ship in place.
What melts in the sun?|ice|iron|sand|glass|When spring comes, ice melts in the sun.
Who bakes the bread?|the baker|the tailor|the pilot|the judge|Early in the morning the baker bakes the bread.
What is made of clay?|a pot|a shirt|a rope|a coin|The woman at the river makes a pot out of clay.
What do the children carry to school?|books|bricks|horses|doors|The children carry books to school.
Which metal rusts in the rain?|iron|gold|silver|tin|A gate of iron rusts in the rain after a year.
What grows under the ground?|a potato|a pear|a cherry|an apple|In the garden a potato grows under the ground.
Where do the bats sleep?|in a cave|in a pond|on the road|in a shop|By day the bats sleep in a cave.
What does a thermometer measure?|heat|noise|weight|speed|A thermometer measures heat in a room or a body.
What turns the wheel of the mill?|the river|the moon|the clock|the bell|All day the river turns the wheel.
What do you need to cut wood?|a saw|a spoon|a brush|a pillow|To cut wood you need a saw and some patience.
What does a shepherd watch?|sheep|stars|trains|clocks|A shepherd watches sheep with the help of a dog.
Which organ moves the blood?|the heart|the lung|the skin|the ear|In every animal the heart moves the blood.
What wakes the farm?|the rooster|the rabbit|the snail|the fish|Before sunrise the rooster wakes the farm.
""")
GERMAN = _facts("""
Was machen die Bienen?|Honig|Salz|Seide|Papier|Die Bienen machen Honig und legen ihn in Waben.
Wo mahlt der Müller?|in der Mühle|im Boot|im Brunnen|im Baum|Der Müller mahlt das Korn in der Mühle.
Was zieht den Pflug?|ein Pferd|eine Gans|eine Katze|ein Fisch|Den Pflug zieht ein Pferd.
Wer backt das Brot?|der Bäcker|der Schneider|der Richter|der Pilot|Früh am Morgen backt der Bäcker das Brot.
Wann ziehen die Gänse fort?|im Herbst|im Mai|mittags|montags|Die Gänse ziehen im Herbst über den Fluss.
Was schmilzt in der Sonne?|Eis|Eisen|Sand|Glas|Wenn es wärmer wird, schmilzt Eis in der Sonne.
Was wächst unter der Erde?|eine Rübe|eine Birne|ein Apfel|eine Nuss|Im Garten wächst eine Rübe unter der Erde.
Was weckt den Hof?|der Hahn|der Hase|die Schnecke|der Fisch|Noch vor Sonnenaufgang weckt der Hahn den Hof.
""")
FRENCH = _facts("""
Que font les abeilles ?|du miel|du sel|du papier|du fer|Les abeilles font du miel en été.
Qui fait le pain ?|le boulanger|le juge|le pilote|le tailleur|Tôt le matin, le boulanger fait le pain.
Que mangent les vaches ?|de l'herbe|du sable|du fer|du verre|Les vaches mangent de l'herbe sur la colline.
Où dorment les bêtes ?|dans la grange|dans le puits|en mer|au bois|La nuit, elles dorment dans la grange.
Que donne une lampe ?|de la lumière|de l'eau|du pain|de la neige|Une lampe donne de la lumière à la pièce.
Quand partent les oies ?|à l'automne|en mai|à midi|lundi|Les oies partent à l'automne.
Que tire le cheval ?|la charrue|la lune|le lac|le nuage|Le vieux cheval tire la charrue.
Qui réveille la ferme ?|le coq|le lièvre|l'escargot|le chat|Avant l'aube, le coq réveille la ferme.
""")
ITALIAN = _facts("""
Che cosa fanno le api?|il miele|il sale|la carta|il ferro|Le api fanno il miele in estate.
Chi fa il pane?|il fornaio|il giudice|il pilota|il sarto|Di mattina il fornaio fa il pane.
Che cosa mangiano le mucche?|l'erba|la sabbia|il vetro|la neve|Le mucche mangiano l'erba sulla collina.
Dove dormono i pipistrelli?|nella grotta|nel mare|in cucina|in piazza|Di giorno dormono nella grotta.
Che cosa si scioglie?|il ghiaccio|il ferro|il vetro|la pietra|Al sole il ghiaccio si scioglie.
Quando partono le oche?|in autunno|a maggio|di lunedì|alle tre|Le oche partono in autunno.
Chi sveglia la fattoria?|il gallo|la lepre|il gatto|il pesce|Prima dell'alba il gallo sveglia la fattoria.
Che cosa tira l'aratro?|il cavallo|la nuvola|la luna|la gallina|Perché è pesante, il cavallo tira l'aratro.
""")
CHINESE = _facts("""
蜜蜂酿什么?|蜂蜜|盐|纸|丝|蜜蜂在夏天酿蜂蜜。
谁烤面包?|面包师|法官|裁缝|飞行员|清晨面包师烤面包。
牛吃什么?|草|石头|沙子|玻璃|牛在山上吃草。
大雁什么时候飞走?|秋天|五月|中午|星期一|大雁在秋天飞走。
什么在阳光下融化?|冰|铁|沙|石|在阳光下冰会融化。
蝙蝠睡在哪里?|山洞里|池塘里|路上|商店里|白天蝙蝠睡在山洞里。
谁叫醒农场?|公鸡|兔子|蜗牛|鱼|日出前公鸡叫醒农场。
什么拉犁?|马|鹅|猫|云|因为犁很重,马拉犁。
""")
NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gita", "Hugo", "Ida", "Jan", "Kim", "Lea")
LETTERS = "ABCDEFGHIJ"


class Sum(NamedTuple):
    """A word problem: who has `a` things and gets `b` more."""

    who: str
    a: int
    b: int

    @property
    def text(self) -> str:
        return f"{self.who} has {self.a} apples and buys {self.b} more."


SUMS = [Sum(name, 3 + 7 * n % 11, 2 + 5 * n % 9) for n, name in enumerate(NAMES)]
TRAINING = ("train", "dev", "train_r1", "auxiliary_train")  # splits with the first half of the facts
Make = Callable[[Any, int], Row]


def rows_of(make: Make, pool: list, split: str) -> list[Row]:
    """The rows of a split: the pool's first half for training, else its second half, but at least eight.

    In a pool of seven (a subject of MMLU) the first five are for training.
    """
    half = max(len(pool) // 2, 8)
    train, scored = (pool[:5], pool[5:]) if len(pool) == 7 else (pool[:half], pool[-half:])
    chosen = train if split in TRAINING else scored
    return [make(entry, number) for number, entry in enumerate(chosen)]


def letter(number: int) -> str:
    return LETTERS[number % 4]


def abcd(f: Fact, n: int, names: str = "ABCD") -> Row:
    return dict(zip(names, f.options(n), strict=True))


def pair(f: Fact, n: int, first: str, second: str, labels: tuple = (0, 1)) -> Row:
    """Two sentences that agree (an even number) or don't."""
    return {first: f.sentence, second: f.false if n % 2 else f.sentence.lower(), "label": labels[n % 2]}


ALL = ("train", "validation", "test")
USUAL = ("train", "validation")
Sources = dict[tuple[str, str], tuple[Make, list, tuple[str, ...]]]
