"""Whether a text is in a language that the detectors were evaluated on: English and Chinese in characters.

    letters ──▶ script of its own (Cyrillic, Arabic, kana …)? ──▶ foreign
       └──▶ Latin: sentence by sentence, function words of one other language, and more of them than English ones ──▶ foreign

More than 40 letters of which more than a fifth are foreign: the text is unverified. Pinyin counts as another language. Function
words are the few that every sentence needs (the heads of common stop-word lists) and that English, its names and code do not.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator

MIN_LETTERS = 40
MAX_FOREIGN_SHARE = 0.2

_FUNCTION_WORDS = {
    "German": "und der das ist nicht ich sie mit ein eine einen einer eines dem den des auf für von wie wir haben werden wurde auch bei "
    "nach oder aber wenn kann können muss mein meine mir mich bitte sich dass zum zur ihr ihre sind hat wird über noch nur schon keine "
    "kein diese dieser dieses aus im vor durch zwischen soll sein als alle unter ohne zu bis",
    "French": "le la les des est et que qui dans une un pour pas sur avec vous nous je mon ma mes sont cette ce cet ces du au aux ne "
    "être fait votre vos moi suis où il elle ont par mais comme plus sa ses leur se si peut sans tous toutes ou entre après avant non",
    "Spanish": "el los las la que es una para por con del su mi como pero más esta este tengo cuál y un se lo nos está son muy "
    "necesito quiero mis sus al cómo qué hay ser puede sin sobre no si todos entre ha cuando desde",
    "Italian": "il che di è per una sono con non del della gli le questo questa mi come nel alla ho un la ed più si ha nella dei delle "
    "mio mia anche quando cosa essere dal dalla può sul sulla al tra senza se lo",
    "Portuguese": "os as que é uma para com não em da das meu minha por mais como um na ao aos dos você está se foi muito eu seu sua "
    "são isso quero preciso ser ou pode sem no nas nos pelo pela esta este",
    "Dutch": "het een van de en ik niet dat met voor op zijn mijn hoe wat heb ook aan er maar om deze naar bij wij kan worden wordt u "
    "uw hebben dit te door geen uit als moet",
    "Polish": "w na nie się jest że z jak mój moja dla od jestem czy co mam ale po tak przez są oraz który która mnie proszę ma i do "
    "można być lub tego tylko jako to przy",
    "Turkish": "ve bir bu için ile ben ne gibi nasıl bana olan çok benim daha mi var değil olarak lütfen sonra kadar ama her veya "
    "olduğunu tüm bulunamadı",
    "Indonesian": "yang dan untuk dengan ini itu saya adalah tidak dari apa bagaimana di ke akan pada kami anda bisa ada sudah atau "
    "juga dalam tolong dapat jika oleh telah",
    "Vietnamese": "và của là tôi không có cho một những được này trong với các để người khi bạn như đã từ làm",
    "Swedish": "och att det som är jag inte en ett på för med av den hur kan till du har om min mitt vi de från eller vid ska inga",
    "Danish and Norwegian": "og at det er jeg ikke en et på for med av af den hvordan kan til du har om min mitt vi de som fra eller "
    "ved skal ingen blev være",
    "Finnish": "ja on ei että se joka kun mutta niin hän minä minun ovat oli mitä tämä voi olen kuin myös ole tai jos voida käytä",
    "Hungarian": "és hogy nem az egy van meg ez csak mint kell vagy én még már ha volt lehet nekem sem ki nincs kívánt",
    "Romanian": "și de la în nu cu pe este care un pentru sunt să din mai ce eu cum dar prin sau fi al poate",
    "Czech and Slovak": "a se je na že to v ve jsem jak pro ale s z do být mi tak jsou který která nebo není ze při po za od byl bez "
    "sa nie ako alebo nebol",
    "Croatian and Slovene": "je u i na se da za nije od su ili ne ako sa po kao koji nema iz ni ter ki bo ali pri",
    "Catalan": "el la els les de que i un una per amb no és del al en es han ha aquest aquesta ser si pot dels cap",
    "Tagalog": "ang ng mga sa na ako ko ay at hindi ito para po ka mo siya kung ba",
    "Swahili": "na ya wa kwa ni katika la za cha yangu mimi kuwa hii si lakini kama",
    "pinyin": "wo de shi ni bu zai zhe hen wei hao shenme wode nide meiyou zenme yige keyi zhege qing ma jiu dou ye hai xiang gei "
    "ta le shenfenzheng haoma dianhua mingzi jiao zhu",
}
_ENGLISH_WORDS = (
    "the of and to in is that it for you with on be this are as your we have can how what i a an my or from by not will which "
    "do does about please write explain he she they his her was were has had me our at if when but all there their would should "
    "no one into than its use using each so up out more also them any these other"
)
_ENGLISH = frozenset(_ENGLISH_WORDS.split())
_MIN_WORDS = 8
_MIN_FOUND, _MIN_DISTINCT, _MIN_SHARE, _MIN_ACCENTED_SHARE = 3, 3, 0.2, 0.15

_MIN_MEAN_LETTERS = 2.5

_FOREIGN_SCRIPTS = re.compile(
    "[\u0370-\u1cff\u1f00-\u1fff\u2c00-\u2c5f\u2c80-\u2dff\u3040-\u318f\u31f0-\u31ff\ua000-\ua4ff\ua500-\ua71f\ua800-\uab2f"
    "\uab70-\ud7ff\ufb13-\ufdff\ufe70-\ufefc\uff66-\uffdc\U00010000-\U0001bcff]+"
)
_ACCENTED = re.compile("[\u00c0-\u024f\u0300-\u036f\u1e00-\u1eff]")
_LETTERS = re.compile(r"[^\W\d_]+")
_WORD = re.compile(r"[^\W\d_]+")
_SENTENCE = re.compile(r"[^.!?;:\n\"“”«»(){}\[\]<>=|]+")


def _folded(word: str) -> str:
    return "".join(letter for letter in unicodedata.normalize("NFD", word) if not unicodedata.combining(letter))


def _index() -> dict[str, tuple[str, ...]]:
    index: dict[str, tuple[str, ...]] = {}
    for language, words in _FUNCTION_WORDS.items():
        written = words.split()
        for word in {*written, *map(_folded, written)} - _ENGLISH:
            index[word] = (*index.get(word, ()), language)
    return index


_INDEX = _index()
_TELLING = sorted(word for word in _INDEX if len(word) > 1 and word.isascii())

PROBES = (
    rf"(?:^|[^A-Za-z])(?:{'|'.join(_TELLING)})[ ,](?:[a-z]{{1,14}}[ ,]){{0,2}}(?:{'|'.join(_TELLING)})(?:[^A-Za-z]|$)",
)
"""Without two function words near each other an ASCII text is not in another language that we can tell."""


def has_accents(text: str) -> bool:
    """Whether there are Latin letters beyond ASCII, or accents."""
    return not text.isascii() and _ACCENTED.search(text) is not None


def in_other_script(text: str) -> bool:
    """Whether more than a fifth of over forty letters belong to scripts other than Latin and Han. Takes linear time."""
    if text.isascii():
        return False
    foreign = sum(map(len, _FOREIGN_SCRIPTS.findall(text)))
    return foreign > MIN_LETTERS * MAX_FOREIGN_SHARE and _prevails(foreign, text)


def in_other_language(text: str) -> bool:
    """Whether more than a fifth of over forty letters stand in sentences in another language. Takes linear time."""
    foreign = sum(_foreign_letters(words) for words in _passages(text))
    return foreign > MIN_LETTERS * MAX_FOREIGN_SHARE and _prevails(foreign, text)


def _prevails(foreign: int, text: str) -> bool:
    letters = sum(map(len, _LETTERS.findall(text)))
    return letters > MIN_LETTERS and foreign > MAX_FOREIGN_SHARE * letters


def _passages(text: str) -> Iterator[list[str]]:
    """The words of one sentence, or of several short ones."""
    words: list[str] = []
    for sentence in _SENTENCE.findall(text):
        piece = _WORD.findall(sentence)
        # One or two words between marks are code, or a list.
        words += piece if len(piece) > 2 else []
        if len(words) >= _MIN_WORDS:
            yield words
            words = []
    if words:
        yield words


def _foreign_letters(words: list[str]) -> int:
    """How many letters of a passage are in another language: all of them or none."""
    found: Counter[str] = Counter()
    distinct: set[tuple[str, str]] = set()
    english = accented = 0
    shouted = all(word.isupper() for word in words)
    for number, word in enumerate(words):
        # A capital inside a sentence begins a name: Los Angeles, La Jolla.
        if number and not shouted and word[0].isupper():
            continue
        lowered = word.lower()
        english += lowered in _ENGLISH
        accented += not lowered.isascii() and _ACCENTED.search(lowered) is not None
        for language in _INDEX.get(lowered, () if lowered.isascii() else _INDEX.get(_folded(lowered), ())):
            found[language] += 1
            distinct.add((language, lowered))
    (language, count), *_ = found.most_common(1) or [("", 0)]
    kinds = sum(each == language for each, _ in distinct)
    telling = count >= _MIN_FOUND and kinds >= _MIN_DISTINCT and count > english and count >= _MIN_SHARE * len(words)
    spelt = accented >= _MIN_FOUND and accented + count > 2 * english and accented >= _MIN_ACCENTED_SHARE * len(words)
    letters = sum(map(len, words))
    return letters if (telling or spelt) and letters >= _MIN_MEAN_LETTERS * len(words) else 0
