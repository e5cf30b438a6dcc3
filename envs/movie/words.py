"""Word lists for the film universe. All its films, people and companies are invented."""

from __future__ import annotations

ADJECTIVES = """Amber Ancient Blind Borrowed Brass Broken Burning Careless Clever Copper Crimson Crooked Distant Drowned
Electric Empty Endless Fallen Faithful First Forgotten Frozen Gentle Gilded Hidden Hollow Honest Hungry Idle Invisible
Iron Last Lonely Lost Lucky Midnight Neon Northern Paper Patient Quiet Reckless Restless Salted Scarlet Second Secret
Silent Silver Sleepless Southern Stolen Stubborn Sudden Tender Thirsty Unseen Velvet Wandering Wicked Winter
Wooden""".split()
NOUNS = """Acrobat Alibi Anchor Archive Atlas Avalanche Bakery Balcony Bargain Beekeeper Bridge Carousel Cartographer
Cathedral Circus Clockmaker Comet Compass Confession Conductor Courier Debt Detour Diplomat Dragonfly Echo Embassy
Engine Ferry Festival Fortune Garden Glacier Harbour Heiress Hotel Inheritance Island Jester Juror Kingdom Lantern
Ledger Librarian Lighthouse Locksmith Machine Magician Map Masquerade Melody Meridian Mirror Monsoon Mountain Museum
Observatory Orchard Orchestra Outpost Pact Parade Passenger Pianist Pilgrim Postcard Prophet Quarry Railway Reunion
River Riddle Sculptor Shepherd Signal Smuggler Staircase Station Storm Tailor Telegram Theatre Tide Tournament Trial
Understudy Vault Verdict Violin Voyage Watchman Witness""".split()
PLACES = """Alder Bay|Bellhaven|Cape Morrow|Dunmere|Eastwick Row|Fennel Street|Gravenport|Harrow Hill|Isla Perdida|
Juniper Flats|Kestrel Point|Lowgate|Marrow Creek|Northbridge|Old Quay|Port Selene|Quillon|Rookwood|Saint Orsola|
Thornfield Pass|Umber Valley|Vesper Lake|Westerly|Yarrow""".replace("\n", "").split("|")
GENRES = {
    1: "Action", 2: "Adventure", 3: "Animation", 4: "Comedy", 5: "Crime", 6: "Documentary", 7: "Drama", 8: "Family",
    9: "Fantasy", 10: "History", 11: "Horror", 12: "Music", 13: "Mystery", 14: "Romance", 15: "Science Fiction",
    16: "Thriller", 17: "War", 18: "Western",
}  # fmt: skip
COUNTRIES = {
    "AR": "Argentina", "AU": "Australia", "BR": "Brazil", "CA": "Canada", "CN": "China", "DE": "Germany",
    "DK": "Denmark", "ES": "Spain", "FR": "France", "GB": "United Kingdom", "IE": "Ireland", "IN": "India",
    "IT": "Italy", "JP": "Japan", "KR": "South Korea", "MX": "Mexico", "NL": "Netherlands", "NG": "Nigeria",
    "PL": "Poland", "SE": "Sweden", "US": "United States of America", "ZA": "South Africa",
}  # fmt: skip
COMPANY_NAMES = """Aurora Bluebird Cinder Dovetail Evergreen Foxglove Granite Halcyon Ironwood Juno Kingfisher Larkspur
Monolith Nightjar Obsidian Paragon Quicksilver Redwood Sundial Tamarind Undertow Vermilion Whitecap Yellowbrick
Zephyr""".split()
COMPANY_KINDS = ["Pictures", "Studios", "Films", "Entertainment", "Productions"]
KEYWORDS = """amnesia|ambush|art theft|artificial intelligence|auction|avalanche|based on novel|bank robbery|betrayal|
blackmail|boarding school|border crossing|brothers|chess|circus|city life|coming of age|conspiracy|courtroom|cult film|
desert|detective|double agent|dream|duel|earthquake|espionage|exile|false identity|family feud|farm|forbidden love|
friendship|ghost|gold rush|grief|heist|hostage|immigrant|inheritance|island|jazz|journalist|kidnapping|lighthouse|
lost letter|magic|mountain climbing|murder|mutiny|new beginning|orphan|parallel world|piano|pirate|prison escape|
prophecy|rebellion|revenge|road trip|robot|secret society|shipwreck|siblings|small town|space station|sports|spy|
storm|submarine|survival|time travel|train|treasure hunt|twins|undercover|village|voyage|wedding|winter|
witness protection|working class""".replace("\n", "").split("|")
BIRTHPLACES = """Accra, Ghana|Adelaide, South Australia, Australia|Antwerp, Belgium|Bergen, Norway|
Boise, Idaho, USA|Bologna, Italy|Brno, Czech Republic|Busan, South Korea|Cardiff, Wales, UK|Cartagena, Colombia|
Chennai, Tamil Nadu, India|Cork, Ireland|Dakar, Senegal|Dresden, Germany|Durban, South Africa|Edinburgh, Scotland, UK|
Fukuoka, Japan|Gdansk, Poland|Ghent, Belgium|Girona, Spain|Gothenburg, Sweden|Graz, Austria|
Halifax, Nova Scotia, Canada|Haifa, Israel|Hobart, Tasmania, Australia|Izmir, Turkey|
Kaunas, Lithuania|Kingston, Jamaica|Kyoto, Japan|Lagos, Nigeria|
Leeds, England, UK|Lille, France|Ljubljana, Slovenia|Lyon, France|Marseille, France|Memphis, Tennessee, USA|
Mendoza, Argentina|Merida, Yucatan, Mexico|Montevideo, Uruguay|Nairobi, Kenya|Nantes, France|Naples, Italy|
Odense, Denmark|Omaha, Nebraska, USA|Pune, Maharashtra, India|Porto, Portugal|Quito, Ecuador|Riga, Latvia|
Rotterdam, Netherlands|Sapporo, Japan|Seville, Spain|Tallinn, Estonia|Tampere, Finland|Toulouse, France|
Trieste, Italy|Tucson, Arizona, USA|Turin, Italy|Utrecht, Netherlands|Valparaiso, Chile|Vilnius, Lithuania|
Winnipeg, Manitoba, Canada|Zagreb, Croatia""".replace("\n", "").split("|")

LANGUAGES = {
    "US": ("en", "English", "English"),
    "NL": ("nl", "Nederlands", "Dutch"),
    "DE": ("de", "Deutsch", "German"),
    "RU": ("ru", "Pусский", "Russian"),
    "JP": ("ja", "日本語", "Japanese"),
    "CN": ("zh", "普通话", "Mandarin"),
}
"""Country -> code, own name and English name of the language of its translation, as TMDB names them."""
SENTENCE = {
    "US": "{hero} {quest} in {place}, and must choose between {stake}.",
    "NL": "{hero} {quest} in {place} en moet kiezen tussen {stake}.",
    "DE": "{hero} {quest} in {place} und muss sich zwischen {stake} entscheiden.",
    "RU": "{hero} {quest} в городе {place}, и приходится выбирать между {stake}.",
    "JP": "{place}で{hero}が{quest}、{stake}のどちらかを選ばなければならない。",
    "CN": "{hero}在{place}{quest}，必须在{stake}之间做出选择。",
}
HEROES = {
    "US": "A retired judge|A young pilot|A pair of estranged sisters|A forgotten inventor|A night nurse|A stubborn "
    "fisherman|A travelling actor|A shy translator",
    "NL": "Een gepensioneerde rechter|Een jonge piloot|Een vervreemd zussenpaar|Een vergeten uitvinder|Een nachtzuster|"
    "Een koppige visser|Een rondreizende acteur|Een verlegen vertaler",
    "DE": "Ein pensionierter Richter|Ein junger Pilot|Ein entfremdetes Schwesternpaar|Ein vergessener Erfinder|"
    "Eine Nachtschwester|Ein sturer Fischer|Ein reisender Schauspieler|Ein schüchterner Übersetzer",
    "RU": "Судья на пенсии|Молодой пилот|Пара сестёр после ссоры|Забытый изобретатель|Ночная медсестра|"
    "Упрямый рыбак|Странствующий актёр|Застенчивый переводчик",
    "JP": "引退した判事|若いパイロット|疎遠な姉妹|忘れられた発明家|夜勤の看護師|頑固な漁師|旅回りの役者|内気な翻訳家",
    "CN": "一位退休法官|一名年轻飞行员|一对疏远的姐妹|一位被遗忘的发明家|一名夜班护士|一个固执的渔夫|"
    "一位巡演演员|一名害羞的翻译",
}
QUESTS = {
    "US": "finds an old map|loses everything overnight|receives a letter from the past|witnesses a crime|hides a "
    "stranger|starts a new life|returns after twenty years|uncovers a secret",
    "NL": "vindt een oude kaart|verliest in één nacht alles|ontvangt een brief uit het verleden|is getuige van een "
    "misdaad|verbergt een vreemdeling|begint een nieuw leven|keert na twintig jaar terug|ontdekt een geheim",
    "DE": "findet eine alte Karte|verliert über Nacht alles|erhält einen Brief aus der Vergangenheit|beobachtet ein "
    "Verbrechen|versteckt einen Fremden|beginnt ein neues Leben|kehrt nach zwanzig Jahren zurück|lüftet ein Geheimnis",
    "RU": "находит старую карту|теряет всё за одну ночь|получает письмо из прошлого|видит преступление|прячет "
    "незнакомца|начинает новую жизнь|возвращается через двадцать лет|раскрывает тайну",
    "JP": "古い地図を見つけ|一夜ですべてを失い|過去からの手紙を受け取り|犯罪を目撃し|見知らぬ人をかくまい|"
    "新しい人生を始め|二十年ぶりに戻り|秘密を暴き",
    "CN": "发现了一张旧地图|一夜之间失去一切|收到一封来自过去的信|目睹了一桩罪案|藏匿了一个陌生人|"
    "开始了新生活|时隔二十年归来|揭开了一个秘密",
}
STAKES = {
    "US": "love and duty|truth and loyalty|the sea and home|fame and friendship|revenge and forgiveness",
    "NL": "liefde en plicht|waarheid en trouw|de zee en thuis|roem en vriendschap|wraak en vergeving",
    "DE": "Liebe und Pflicht|Wahrheit und Treue|dem Meer und der Heimat|Ruhm und Freundschaft|Rache und Vergebung",
    "RU": "любовью и долгом|правдой и верностью|морем и домом|славой и дружбой|местью и прощением",
    "JP": "愛と義務|真実と忠誠|海と故郷|名声と友情|復讐と赦し",
    "CN": "爱情与责任|真相与忠诚|大海与家园|名声与友谊|复仇与宽恕",
}
