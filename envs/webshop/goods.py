"""Word lists for the generated shop: kinds of products, their attributes and options, and everyday words for them.

`catalogue.py` makes products of them, `goals.py` instructions.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pool:
    """Attributes that a family of products can have, each with a person's words for it, and the options offered.

    Words that begin with "+" follow the noun ("shoes with a rubber sole"), others go before it ("machine washable").
    """

    attributes: dict[str, str]
    options: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Kind:
    """One kind of product: what it is called, where the shop files it, and what it costs in whole dollars."""

    category: str
    noun: str
    path: str
    pool: str
    low: int
    high: int

    @property
    def query(self) -> str:
        """The shop's own search term for the kind."""
        return self.path.rpartition(" › ")[2].lower()


def _attributes(text: str) -> dict[str, str]:
    pairs = (line.strip().partition("=") for line in text.split(";"))
    return {name: words or name for name, _, words in pairs}


def _values(text: str) -> tuple[str, ...]:
    return tuple(value.strip() for value in text.split(","))


COLORS = _values(
    "black, white, navy blue, light gray, dark gray, red, wine red, forest green, olive, mint green,"
    " royal blue, sky blue,"
    "burgundy, purple, lavender, pink, rose, coral, orange, mustard yellow, khaki, beige, ivory,"
    " brown, chocolate, teal"
)
SHADES = _values(
    "01 ivory, 02 beige, 03 natural, 04 sand, 05 honey, 06 caramel, 07 chestnut, 08 espresso, 09 cocoa, 10 rose"
)
WEAR = _values("x-small, small, medium, large, x-large, xx-large, 3x-large")
FEET = _values("5, 5.5, 6, 6.5, 7, 7.5, 8, 8.5, 9, 9.5, 10, 10.5, 11, 12, 13")
VOLUMES = _values("1 fl oz, 1.7 fl oz, 3.4 fl oz, 5 fl oz, 8 fl oz, 12 fl oz, 16 fl oz")
SCENTS = _values("lavender, rose, vanilla, coconut, citrus, eucalyptus, sandalwood, jasmine, cucumber melon, unscented")
FLAVORS = _values(
    "chocolate, vanilla, strawberry, peanut butter, salted caramel, mango, coconut, cinnamon,"
    " original, barbecue, lemon,"
    "honey mustard, sea salt, blueberry, maple, jalapeno"
)
DRINK_FLAVORS = _values(
    "chocolate, vanilla, strawberry, caramel, mango, coconut, cinnamon, original, lemon, honey, blueberry, maple,"
    "peach, ginger, mint, orange, cherry, hazelnut"
)
PACKS = _values("1 count, pack of 2, pack of 3, pack of 4, pack of 6, pack of 8, pack of 12")
LENGTHS = _values("1 feet, 3 feet, 6 feet, 10 feet, 15 feet, 25 feet, 50 feet")
PHONES = _values("model s10, model s20, model s21, model a12, model a52, model x2, model x3, model z4, model z5 plus")
BEDS = _values("twin, twin xl, full, queen, king, california king")
PANELS = _values("52 x 63 in, 52 x 84 in, 42 x 63 in, 42 x 84 in, 60 x 84 in, 38 x 45 in")
RUGS = _values("2 ft x 3 ft, 3 ft x 5 ft, 4 ft x 6 ft, 5 ft x 8 ft, 8 ft x 10 ft, 9 ft x 12 ft")
FINISHES = _values("walnut, oak, espresso, rustic brown, white, black, gray, cherry, maple, natural")

POOLS: dict[str, Pool] = {
    "cloth": Pool(
        _attributes(
            "machine wash=machine washable; slim fit; classic fit=classic fitting; relaxed fit=relaxed fitting;"
            "long sleeve=long sleeved; short sleeve=short sleeved; quick drying; moisture wicking;"
            "cotton spandex=+made of cotton spandex; polyester cotton=+made of a polyester cotton blend;"
            "stretch fabric=+made of stretch fabric; elastic waist=+with an elastic waist;"
            "drawstring closure=+with a drawstring closure; button closure=+with a button closure;"
            " hand wash=hand washable;"
            "daily wear=+for daily wear; wash cold=+that i can wash cold; fashion design=+with a fashionable design"
        ),
        {"color": COLORS, "size": WEAR},
    ),
    "shoes": Pool(
        _attributes(
            "rubber sole=+with a rubber sole; non slip=non-slip; arch support=+with arch support;"
            " memory foam=memory foam;"
            "lace closure=+with a lace closure; leather sole=+with a leather sole; open toe=open toe;"
            " closed toe=closed toe;"
            "ethylene vinyl=+made of ethylene vinyl; water resistant=water resistant; steel toe=steel toe;"
            "faux fur=+lined with faux fur; light weight=lightweight; teen girls=+for teen girls;"
            " ankle strap=+with an ankle strap"
        ),
        {"color": COLORS, "size": FEET},
    ),
    "skin": Pool(
        _attributes(
            "cruelty free=cruelty-free; paraben free=paraben-free; fragrance free=fragrance-free; oil free=oil-free;"
            "sensitive skin=+for sensitive skin; dry skin=+for dry skin;"
            " natural ingredients=+with natural ingredients;"
            "hyaluronic acid=+with hyaluronic acid; tea tree=+with tea tree oil; anti aging=anti-aging;"
            " fine lines=+for fine lines;"
            "dermatologist tested; vitamin c=+with vitamin c; dead skin=+that removes dead skin;"
            " coconut oil=+with coconut oil;"
            "dark circles=+against dark circles; travel size=travel sized"
        ),
        {"scent": SCENTS, "size": VOLUMES},
    ),
    "hair": Pool(
        _attributes(
            "sulfate free=sulfate-free; damaged hair=+for damaged hair; hair growth=+that supports hair growth;"
            "dry hair=+for dry hair; argan oil=+with argan oil; color safe=color safe; hair loss=+against hair loss;"
            "natural hair=+for natural hair; plant based=plant-based; leave in=leave-in; seed oil=+with seed oil;"
            "silicone free=silicone-free; scalp care=+for scalp care; long lasting=long-lasting;"
            " curly hair=+for curly hair"
        ),
        {"scent": SCENTS, "size": VOLUMES},
    ),
    "makeup": Pool(
        _attributes(
            "long lasting=long-lasting; easy apply=easy to apply; highly pigmented; cruelty free=cruelty-free;"
            "animal testing=+without animal testing; water proof=waterproof; high quality=high quality;"
            "eye shadow=+that goes with eye shadow; nail polish=+that goes with nail polish;"
            " easy carry=easy to carry;"
            "alcohol free=alcohol-free; full coverage=full coverage; matte finish=+with a matte finish"
        ),
        {"color": SHADES},
    ),
    "food": Pool(
        _attributes(
            "gluten free=gluten-free; non gmo=non-gmo; sugar free=sugar-free; low carb=low-carb;"
            " keto friendly=keto-friendly;"
            "dairy free=dairy-free; nut free=nut-free; plant based=plant-based; high protein=high-protein;"
            " fat free=fat-free;"
            "individually wrapped; artificial flavors=+without artificial flavors; ready eat=ready-to-eat;"
            " kosher certified;"
            "usda organic=organic; low sodium=low-sodium; gift basket=+for a gift basket; family size=family-sized;"
            "birthday party=+for a birthday party"
        ),
        {"flavor": FLAVORS, "size": PACKS},
    ),
    "drink": Pool(
        _attributes(
            "caffeine free=caffeine-free; sugar free=sugar-free; low calorie=low-calorie; zero sugar=zero sugar;"
            "non alcoholic=non-alcoholic; usda organic=organic; easy use=easy to prepare;"
            " rich creamy=rich and creamy;"
            "real fruit=+made of real fruit; artificial colors=+without artificial colors; freeze dried;"
            " hand crafted;"
            "protein serving=+with protein in every serving; lactose free=lactose-free"
        ),
        {"flavor": DRINK_FLAVORS, "size": PACKS},
    ),
    "cable": Pool(
        _attributes(
            "high speed=high-speed; gold plated=gold-plated; fast charging=fast-charging; heavy duty=heavy-duty;"
            "plug play=plug-and-play; nylon braided; non tangle=tangle-free; data sync=+that syncs data;"
            " blu ray=+for blu ray players;"
            "output protection=+with output protection; usb port=+with a usb port; high performance=high-performance;"
            "carrying case=+with a carrying case; easy install=easy to install"
        ),
        {"color": _values("black, white, gray, red, blue, silver"), "size": LENGTHS},
    ),
    "audio": Pool(
        _attributes(
            "noise cancelling=noise-cancelling; hands free=hands-free; stereo sound=+with stereo sound;"
            " water resistant;"
            "wireless bluetooth=wireless bluetooth; long lasting=+with a long-lasting battery;"
            " fast charging=fast-charging;"
            "high definition=high-definition; volume control=+with volume control;"
            " carrying case=+with a carrying case;"
            "batteries included=+with batteries included; touch screen=+with a touch screen;"
            " easy carry=easy to carry;"
            "light weight=lightweight"
        ),
        {"color": COLORS},
    ),
    "phone": Pool(
        _attributes(
            "wireless charging=+that allows wireless charging; tempered glass=+with tempered glass;"
            " heavy duty=heavy-duty;"
            "easy install=easy to install; case cover=+that also covers the edges; hands free=hands-free;"
            "dust proof=dust-proof; scratch resistant=scratch-resistant; card slots=+with card slots;"
            " anti slip=anti-slip;"
            "screen protector=+with a screen protector; glass screen=+for a glass screen; shock proof=shock-proof"
        ),
        {"color": COLORS, "fits": PHONES},
    ),
    "wood": Pool(
        _attributes(
            "easy assemble=easy to assemble; solid wood=solid wood; mid century=mid-century;"
            " storage space=+with storage space;"
            "living room=+for the living room; dining room=+for the dining room; steel frame=+with a steel frame;"
            "engineered wood=+of engineered wood; space saving=space-saving;"
            " assembly required=+that i assemble myself;"
            "heavy duty=heavy-duty; coated steel=+with coated steel legs; white finish=+with a white finish;"
            " easy clean=easy to clean;"
            "contemporary style=contemporary-style"
        ),
        {"color": FINISHES},
    ),
    "textile": Pool(
        _attributes(
            "super soft=super soft; machine washable; fade resistant=fade-resistant;"
            " queen size=+for a queen size bed;"
            "hypo allergenic=hypoallergenic; wrinkle free=wrinkle-free; microfiber fill=+with a microfiber fill;"
            "double sided=double-sided; spot clean=+that i can spot clean; eco friendly=eco-friendly;"
            " exquisite workmanship=finely made;"
            "home decor=+for home decor; guest room=+for a guest room; long lasting=long-lasting"
        ),
        {"color": COLORS, "size": BEDS},
    ),
    "window": Pool(
        _attributes(
            "blackout lining=+with a blackout lining; energy efficient=energy-efficient; machine washable;"
            "living room=+for the living room; rod pocket=+with a rod pocket; noise reducing=noise-reducing;"
            " easy clean=easy to clean;"
            "grommet top=+with a grommet top; printing technology=printed; white item=+with a white back;"
            " light filtering=light-filtering"
        ),
        {"color": COLORS, "size": PANELS},
    ),
    "floor": Pool(
        _attributes(
            "non slip=non-slip; machine washable; easy clean=easy to clean; stain resistant=stain-resistant;"
            " high density=high-density;"
            "living room=+for the living room; dining room=+for the dining room;"
            " short pile=+with a short pile; pet friendly=pet-friendly;"
            "natural fiber=+of natural fiber; vintage style=vintage-style"
        ),
        {"color": COLORS, "size": RUGS},
    ),
    "gear": Pool(
        _attributes(
            "light weight=lightweight; quick release=+with a quick release;"
            " aluminum alloy=+of aluminum alloy; easy carry=easy to carry;"
            "high resolution=high-resolution; optical zoom=+with optical zoom; night vision=+with night vision;"
            "motion detection=+with motion detection; water resistant; 1080p hd=1080p hd;"
            " dual band=dual-band; easy set=easy to set up;"
            "carbon fiber=+of carbon fiber; ultra hd=ultra hd"
        ),
        {
            "color": _values("black, white, silver, gray, blue, army green"),
            "style": _values("basic kit, standard kit, travel kit, pro kit"),
        },
    ),
}  # fmt: skip

_KINDS = """
fashion | men's t-shirt | Clothing › Men › Shirts › Men's T-Shirts | cloth | 9 | 45
fashion | men's polo shirt | Clothing › Men › Shirts › Men's Polos | cloth | 14 | 60
fashion | men's jeans | Clothing › Men › Trousers › Men's Jeans | cloth | 22 | 90
fashion | men's hoodie | Clothing › Men › Tops › Men's Hoodies | cloth | 20 | 80
fashion | men's swim trunks | Clothing › Men › Swim › Men's Swimwear | cloth | 12 | 50
fashion | women's blouse | Clothing › Women › Tops › Women's Blouses | cloth | 12 | 60
fashion | women's leggings | Clothing › Women › Trousers › Women's Leggings | cloth | 10 | 55
fashion | women's dress | Clothing › Women › Dresses › Women's Dresses | cloth | 18 | 120
fashion | women's cardigan | Clothing › Women › Sweaters › Women's Cardigans | cloth | 18 | 85
fashion | women's pajama set | Clothing › Women › Sleep › Women's Sleepwear | cloth | 16 | 70
fashion | men's running shoes | Shoes › Men › Athletic › Men's Running Shoes | shoes | 30 | 140
fashion | men's loafers | Shoes › Men › Casual › Men's Loafers | shoes | 28 | 130
fashion | men's work boots | Shoes › Men › Work › Men's Boots | shoes | 45 | 180
fashion | women's sandals | Shoes › Women › Summer › Women's Sandals | shoes | 18 | 90
fashion | women's ankle boots | Shoes › Women › Winter › Women's Boots | shoes | 35 | 150
fashion | women's slippers | Shoes › Women › Home › Women's Slippers | shoes | 12 | 50
beauty | face moisturizer | Beauty › Skin Care › Face › Moisturizers | skin | 8 | 60
beauty | body lotion | Beauty › Skin Care › Body › Body Lotions | skin | 6 | 35
beauty | face serum | Beauty › Skin Care › Face › Serums | skin | 12 | 80
beauty | body scrub | Beauty › Skin Care › Body › Scrubs | skin | 8 | 40
beauty | hand cream | Beauty › Skin Care › Hands › Hand Creams | skin | 5 | 28
beauty | shampoo | Beauty › Hair Care › Wash › Shampoos | hair | 7 | 45
beauty | hair conditioner | Beauty › Hair Care › Wash › Conditioners | hair | 7 | 45
beauty | hair mask | Beauty › Hair Care › Treatment › Hair Masks | hair | 9 | 50
beauty | hair oil | Beauty › Hair Care › Treatment › Hair Oils | hair | 8 | 48
beauty | liquid foundation | Beauty › Makeup › Face › Foundations | makeup | 8 | 50
beauty | lipstick | Beauty › Makeup › Lips › Lipsticks | makeup | 5 | 35
beauty | concealer | Beauty › Makeup › Face › Concealers | makeup | 6 | 32
grocery | granola bars | Grocery › Snacks › Bars › Granola Bars | food | 4 | 40
grocery | trail mix | Grocery › Snacks › Nuts › Trail Mixes | food | 6 | 45
grocery | potato chips | Grocery › Snacks › Chips › Potato Chips | food | 3 | 30
grocery | cookies | Grocery › Snacks › Bakery › Cookies | food | 4 | 35
grocery | beef jerky | Grocery › Snacks › Meat › Jerky | food | 7 | 50
grocery | breakfast cereal | Grocery › Breakfast › Cereals › Cold Cereals | food | 4 | 38
grocery | popcorn | Grocery › Snacks › Chips › Popcorn | food | 3 | 30
grocery | protein shake | Grocery › Beverages › Shakes › Protein Drinks | drink | 12 | 65
grocery | herbal tea | Grocery › Beverages › Tea › Herbal Teas | drink | 5 | 30
grocery | ground coffee | Grocery › Beverages › Coffee › Ground Coffees | drink | 8 | 45
grocery | sparkling water | Grocery › Beverages › Water › Sparkling Waters | drink | 6 | 32
electronics | hdmi cable | Electronics › Accessories › Cables › Hdmi Cables | cable | 6 | 45
electronics | usb c cable | Electronics › Accessories › Cables › Usb Cables | cable | 5 | 30
electronics | extension cord | Electronics › Accessories › Power › Extension Cords | cable | 9 | 60
electronics | wireless earbuds | Electronics › Audio › Headphones › Earbuds | audio | 18 | 160
electronics | over ear headphones | Electronics › Audio › Headphones › Over-Ear Headphones | audio | 25 | 220
electronics | portable speaker | Electronics › Audio › Speakers › Portable Speakers | audio | 15 | 150
electronics | phone case | Electronics › Phones › Cases › Basic Cases | phone | 7 | 40
electronics | wallet phone case | Electronics › Phones › Cases › Wallet Cases | phone | 10 | 45
electronics | phone holder | Electronics › Phones › Mounts › Phone Holders | phone | 8 | 40
electronics | security camera | Electronics › Cameras › Home › Security Cameras | gear | 25 | 220
electronics | camera tripod | Electronics › Cameras › Support › Tripods | gear | 18 | 180
electronics | binoculars | Electronics › Cameras › Optics › Binoculars | gear | 20 | 200
garden | coffee table | Home › Furniture › Tables › Coffee Tables | wood | 60 | 320
garden | bookcase | Home › Furniture › Shelves › Bookcases | wood | 50 | 280
garden | tv stand | Home › Furniture › Media › Television Stands | wood | 80 | 400
garden | nightstand | Home › Furniture › Bedroom › Nightstands | wood | 40 | 200
garden | dining chair | Home › Furniture › Chairs › Dining Chairs | wood | 45 | 260
garden | throw blanket | Home › Bedding › Blankets › Throws | textile | 14 | 70
garden | comforter set | Home › Bedding › Sets › Comforters | textile | 35 | 160
garden | bed sheets | Home › Bedding › Sheets › Sheet Sets | textile | 20 | 110
garden | curtains | Home › Decor › Windows › Curtain Panels | window | 15 | 90
garden | area rug | Home › Decor › Rugs › Area Rugs | floor | 25 | 300
garden | bath mat | Home › Bath › Rugs › Bath Mats | floor | 10 | 60
"""

KINDS: tuple[Kind, ...] = tuple(
    Kind(category, noun, path, pool, int(low), int(high))
    for category, noun, path, pool, low, high in (line.split(" | ") for line in _KINDS.split("\n") if line)
)

BRAND_STARTS = _values(
    "Nor, Vel, Ash, Bri, Cal, Dun, Eld, Fen, Gal, Hal, Ive, Jor, Kel, Lum, Mar, Oak, Pel, Ros, Sol, Tav, Wil, Zen"
)
BRAND_ENDS = _values("vale, mont, wick, ford, lane, crest, ridge, haven, bury, stead, brook, field, worth, mere, dale")
LINES = _values(
    "Drift, Aster, Harbor, Meadow, Summit, Willow, Ember, Cedar, Breeze, Canyon, Delta, Echo, Fable,"
    " Grove, Horizon, Island,"
    "Juniper, Kite, Lagoon, Maple, Nimbus, Orchard, Prairie, Quill, River, Sierra, Thistle, Umbra, Valley, Wander"
)  # fmt: skip
