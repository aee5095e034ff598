"""Eighty questions with one short right answer each: the facts that the shipped example is written from.

A fact is subject, right answer, a wrong answer that a model could give, and two true sentences that do not name the
right answer.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fact:
    """One question's content."""

    subject: str
    answer: str
    wrong: str
    clues: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Family:
    """Questions of one kind.

    Attributes:
        question: with ``{subject}``.
        statement: a sentence with ``{subject}`` and ``{answer}``.
        asides: true sentences that fit every question of the family.
        facts: the questions.
    """

    question: str
    statement: str
    asides: tuple[str, str]
    facts: tuple[Fact, ...]


def _facts(table: str) -> tuple[Fact, ...]:
    rows = [[cell.strip() for cell in line.split("|")] for line in table.strip().splitlines()]
    return tuple(Fact(subject, answer, wrong, (one, two)) for subject, answer, wrong, one, two in rows)


CAPITALS = _facts("""
Australia | Canberra | Sydney | The site lies inland between Sydney and Melbourne. | The city was planned from scratch after a design competition.
Canada | Ottawa | Toronto | It stands on the river between Ontario and Quebec. | Queen Victoria chose it over larger rivals in 1857.
Brazil | Brasília | Rio de Janeiro | The government moved inland from the coast in 1960. | Oscar Niemeyer designed many of its public buildings.
Turkey | Ankara | Istanbul | The government was moved to Anatolia in 1923. | The largest city, on the Bosporus, is a different one.
New Zealand | Wellington | Auckland | It lies at the southern end of the North Island. | It is known for its harbour and for strong winds.
Morocco | Rabat | Casablanca | It lies on the Atlantic at the mouth of the Bou Regreg. | The largest city is another port further down the coast.
Vietnam | Hanoi | Ho Chi Minh City | It lies in the north of the country on the Red River. | The largest city lies in the south.
Kazakhstan | Astana | Almaty | The government moved north from Almaty in 1997. | Between 2019 and 2022 it bore the name Nur-Sultan.
Nigeria | Abuja | Lagos | The government moved there from Lagos in 1991. | It was built near the middle of the country.
Pakistan | Islamabad | Karachi | It was built in the 1960s beside Rawalpindi. | The first seat of government was Karachi.
Myanmar | Naypyidaw | Yangon | The government left Yangon for it in 2005. | It was built on open land between Yangon and Mandalay.
Tanzania | Dodoma | Dar es Salaam | The decision to move inland was taken in 1973. | The largest city is still the old port on the Indian Ocean.
Ivory Coast | Yamoussoukro | Abidjan | It was given the role in 1983. | One of the largest churches in the world stands there.
Ecuador | Quito | Guayaquil | It lies high in the Andes, close to the equator. | Its old town is full of Spanish churches.
Finland | Helsinki | Turku | Before 1812 the seat of government was Turku. | It lies across the gulf from Tallinn.
Poland | Warsaw | Kraków | It lies on the Vistula. | Its old town was rebuilt after the Second World War.
Portugal | Lisbon | Porto | An earthquake destroyed much of it in 1755. | It lies where the Tagus meets the Atlantic.
Kenya | Nairobi | Mombasa | It grew from a railway depot founded in 1899. | A national park with lions begins at the edge of the city.
Mongolia | Ulaanbaatar | Erdenet | Its winters are among the coldest of any large city. | Almost half of the country's people live there.
Cuba | Havana | Santiago de Cuba | The Spanish founded it in the sixteenth century. | An old fortress guards the entrance to its harbour.
""")

ELEMENTS = _facts("""
iron | Fe | Ir | Iron has atomic number 26. | The symbol was taken from the Latin word ferrum.
gold | Au | Go | Gold has atomic number 79. | The symbol was taken from the Latin word aurum.
silver | Ag | Si | Silver has atomic number 47. | The symbol was taken from the Latin word argentum.
copper | Cu | Co | Copper has atomic number 29. | The symbol was taken from the Latin word cuprum.
tin | Sn | Ti | Tin has atomic number 50. | The symbol was taken from the Latin word stannum.
lead | Pb | Le | Lead has atomic number 82. | The symbol was taken from the Latin word plumbum.
sodium | Na | So | Sodium has atomic number 11. | The symbol was taken from the Latin name natrium.
potassium | K | Po | Potassium has atomic number 19. | The symbol was taken from the Latin name kalium.
mercury | Hg | Me | Mercury has atomic number 80. | It is the metal that is liquid at room temperature.
tungsten | W | Tu | Tungsten has atomic number 74. | The symbol was taken from the old name wolfram.
antimony | Sb | An | Antimony has atomic number 51. | The symbol was taken from the Latin name stibium.
helium | He | Hl | Helium has atomic number 2. | The name comes from the Greek word for the sun.
neon | Ne | No | Neon has atomic number 10. | The name comes from the Greek word for new.
calcium | Ca | Cl | Calcium has atomic number 20. | The name comes from the Latin word for lime.
magnesium | Mg | Ma | Magnesium has atomic number 12. | The name goes back to a district of Greece.
manganese | Mn | Mg | Manganese has atomic number 25. | It is added to steel to make it harder.
zinc | Zn | Zi | Zinc has atomic number 30. | It protects steel from rust when it is galvanised.
nickel | Ni | Nk | Nickel has atomic number 28. | It is one of the few metals that a magnet attracts.
chlorine | Cl | Ch | Chlorine has atomic number 17. | The name comes from the Greek word for pale green.
silicon | Si | Sc | Silicon has atomic number 14. | The name comes from the Latin word for flint.
""")

DISHES = _facts("""
hummus | chickpeas | lentils | The smooth dip comes from the eastern Mediterranean. | Tahini, lemon juice and garlic are stirred in.
guacamole | avocado | tomato | The dish comes from Mexico. | Lime juice keeps it from turning brown.
tofu | soybeans | rice | The method was brought from China to the rest of East Asia. | The milk is curdled and pressed into blocks.
polenta | maize | semolina | The dish is at home in northern Italy. | It is stirred slowly until it is thick.
sauerkraut | cabbage | turnip | Salt draws out the juice. | Lactic acid bacteria ferment it for several weeks.
marzipan | almonds | hazelnuts | The nuts are ground with sugar to a paste. | Lübeck and Toledo are both famous for it.
tahini | sesame | sunflower seeds | The seeds are hulled and ground to a paste. | It goes into hummus and into halva.
baba ghanoush | aubergine | courgette | It is charred over a flame until it is soft. | The flesh is then mashed with tahini.
gazpacho | tomatoes | red peppers | The soup comes from Andalusia. | It is served cold on hot days.
borscht | beetroot | red cabbage | The soup has a deep red colour. | It is often served with sour cream.
tzatziki | yoghurt | sour cream | The dish is a cool starter from Greece. | Grated cucumber and garlic are stirred in.
risotto | rice | barley | Broth is added one ladle at a time. | Arborio and Carnaroli are the usual varieties.
couscous | wheat | millet | It is a staple of the Maghreb. | The small grains are rolled and then steamed.
pesto alla genovese | basil | parsley | The sauce comes from Liguria. | Pine nuts, cheese and oil are pounded with it.
congee | rice | oats | It is boiled in plenty of water to a porridge. | It is a common breakfast in East Asia.
injera | teff | millet | The flatbread is eaten in Ethiopia and Eritrea. | The batter ferments for several days.
poi | taro | yam | The dish comes from Hawaii. | The corm is steamed and then pounded.
tapioca | cassava | sago | The plant comes from South America. | The starch is washed out of the root.
soba | buckwheat | rye | The noodles are eaten hot or cold in Japan. | The seeds are not those of a grass.
rösti | potatoes | celeriac | The dish comes from Switzerland. | It is grated and fried until it is crisp.
""")

RIVERS = _facts("""
Danube | Black Sea | Adriatic Sea | It passes through four capitals. | It rises in the south-west of Germany.
Volga | Caspian Sea | Black Sea | It is the longest river in Europe. | It rises north-west of Moscow.
Rhine | North Sea | Baltic Sea | It rises in the Swiss Alps. | It reaches the coast in the Netherlands.
Nile | Mediterranean Sea | Red Sea | It flows north through Sudan and Egypt. | Its delta begins near Cairo.
Amazon | Atlantic Ocean | Pacific Ocean | It rises in the Andes of Peru. | It carries more water than any other river.
Ganges | Bay of Bengal | Arabian Sea | It rises in the Himalayas. | It shares a vast delta with the Brahmaputra.
Indus | Arabian Sea | Bay of Bengal | It rises in Tibet. | It reaches the coast near Karachi.
Mekong | South China Sea | Gulf of Thailand | It flows through six countries. | Its delta lies in southern Vietnam.
Yangtze | East China Sea | Yellow Sea | It is the longest river in Asia. | It reaches the coast near Shanghai.
Yellow River | Bohai Sea | East China Sea | It carries a great load of loess. | It rises on the Tibetan Plateau.
Congo | Atlantic Ocean | Indian Ocean | It crosses the equator twice. | It is among the deepest rivers in the world.
Zambezi | Indian Ocean | Atlantic Ocean | It drops over Victoria Falls. | It reaches the coast in Mozambique.
Po | Adriatic Sea | Ligurian Sea | It is the longest river in Italy. | It flows past Turin.
Rhône | Mediterranean Sea | Bay of Biscay | It flows through Lake Geneva. | The Camargue lies in its delta.
Loire | Bay of Biscay | English Channel | It is the longest river in France. | It reaches the coast near Saint-Nazaire.
Seine | English Channel | Bay of Biscay | It flows through Paris and Rouen. | It reaches the coast near Le Havre.
Vistula | Baltic Sea | Black Sea | It flows through Kraków and Warsaw. | It reaches the coast near Gdańsk.
Elbe | North Sea | Baltic Sea | It rises in the Czech Republic. | It flows through Dresden and Hamburg.
Douro | Atlantic Ocean | Mediterranean Sea | It rises in northern Spain. | It reaches the coast at Porto.
Ebro | Mediterranean Sea | Bay of Biscay | It flows through Zaragoza. | It reaches the coast south of Tarragona.
""")

FAMILIES = (
    Family(
        "What is the capital of {subject}?",
        "The capital of {subject} is {answer}.",
        (
            "A country's largest city need not be its seat of government, so it is worth a second look.",
            "Several countries have moved their government to another city during the last hundred years.",
        ),
        CAPITALS,
    ),
    Family(
        "What is the chemical symbol of {subject}?",
        "The chemical symbol of {subject} is {answer}.",
        (
            "Some symbols follow the English name of an element and some follow an older name in another language.",
            "A symbol has one or two letters, and only the first of them is a capital letter.",
        ),
        ELEMENTS,
    ),
    Family(
        "What is the main ingredient of {subject}?",
        "The main ingredient of {subject} is {answer}.",
        (
            "Recipes differ from one kitchen to the next, so it helps to look for what they all have in common.",
            "What gives a dish its flavour is often not what makes up most of its weight.",
        ),
        DISHES,
    ),
    Family(
        "Into which sea, bay or ocean does the {subject} flow?",
        "The {subject} flows into the {answer}.",
        (
            "A river need not flow to the coast that is nearest to its source, so it is worth following its course.",
            "Mountains and old valleys decide which way a river turns on its way down.",
        ),
        RIVERS,
    ),
)
