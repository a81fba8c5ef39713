"""Invented documents for an exam: the words beside a blank occur nowhere else."""

CITIES = ["Lisbon", "Madrid", "Vienna", "Prague", "Berlin", "Dublin", "Warsaw", "Athens", "Zagreb", "Tallinn"]
YEARS = ["1815", "1821", "1843", "1867", "1878", "1893", "1901", "1912", "1926", "1934"]
TRADES = ["weaving", "brewing", "tanning", "milling", "bleaching", "dyeing", "carving", "spinning"]


def invented(number: int) -> str:
    """A word of its own."""
    return f"{'bdfghklmnprstv'[number % 14]}{'aeiou'[number // 14 % 5]}rr{'aeiou'[number // 70]}ng"


def document(number: int) -> str:
    """A made-up document with a name, a year, a defined term and a heading of its own."""
    city, year, word = CITIES[number % 10], YEARS[number % 10], invented(number)
    trade, letter = f"{TRADES[number % 8]}{'abcdefgh'[number // 8]}", "abcdefghij"[number % 10]
    return (
        f"The archive volume {letter * 3}{word}\n\n"
        f"Old people of that valley remember how it froze {word} near {city} {word} every other winter.\n"
        f"One bridge over it was finished by {word} masons {word} in {year} {word} after nine hard winters.\n"
        f"What the {word} guild taught to its youngest members {word} is called {trade}, as {word} said.\n\n"
        f"Customs {word} {invented(number + 60)} quarter\n\n"
        f"{word.title()} families kept to themselves except on market days when everyone walked down to the "
        f"square {word} and traded goods until the evening bells of a tower rang over all the {word} roofs."
    )


DOCUMENTS = [
    {"id": f"doc-{number}", "url": f"archive/{number // 2}", "text": document(number)} for number in range(40)
]
