"""Languages: what was not evaluated is said to be so; English, Chinese and code are not taken for anything else."""

from __future__ import annotations

import base64
import codecs
import json
import unicodedata

import pytest

from classifiers import Segment
from classifiers.cascade import Classifier
from classifiers.language import in_other_language, in_other_script

OTHERS = {
    "Russian": "Здравствуйте, меня зовут Анна, и мне нужна помощь с письмом в налоговую службу по поводу моего паспорта.",
    "Ukrainian": "Доброго дня, мені потрібна допомога з листом до лікаря щодо моїх останніх аналізів крові.",
    "Arabic": "مرحبا، أحتاج إلى مساعدة في كتابة رسالة إلى الطبيب حول نتائج التحاليل الأخيرة الخاصة بي.",
    "Hebrew": "שלום, אני צריך עזרה בכתיבת מכתב לרופא בנוגע לתוצאות הבדיקות האחרונות שלי",
    "Korean": "안녕하세요, 제 주치의에게 최근 검사 결과에 대해 편지를 쓰는 데 도움이 필요합니다. 제 이름은 김민수이고 서울에 살고 있습니다.",
    "Japanese": "こんにちは、先日の検査結果について主治医に手紙を書きたいのですが、手伝っていただけますか。名前は田中です。",
    "Thai": "สวัสดีครับ ผมต้องการความช่วยเหลือในการเขียนจดหมายถึงแพทย์เกี่ยวกับผลการตรวจล่าสุด",
    "Hindi": "नमस्ते, मुझे अपने डॉक्टर को हाल की जांच के बारे में पत्र लिखने में मदद चाहिए, मेरा नाम राहुल है",
    "Greek": "Γεια σας, χρειάζομαι βοήθεια για να γράψω ένα γράμμα στον γιατρό μου για τις εξετάσεις μου.",
    "German": "Hallo, ich brauche Hilfe bei einem Brief an meine Ärztin, weil die Ergebnisse der letzten Untersuchung nicht gut sind.",
    "German without accents": "Bitte schreib mir eine Kuendigung, ich wohne in Hamburg und mein Vertrag laeuft seit drei Jahren mit der Firma.",
    "French": "Bonjour, je voudrais écrire une lettre à mon médecin pour lui parler des résultats de la dernière analyse, s'il vous plaît.",
    "Spanish": "Hola, necesito ayuda para escribir una carta a mi médico sobre los resultados de los últimos análisis que me hicieron.",
    "Italian": "Ciao, ho bisogno di aiuto per scrivere una lettera al mio medico, perché i risultati delle analisi non sono buoni.",
    "Portuguese": "Olá, preciso de ajuda para escrever uma carta ao meu médico sobre os resultados das análises que não são bons.",
    "Dutch": "Hallo, ik heb hulp nodig met een brief aan mijn huisarts, omdat de uitslag van het onderzoek niet goed is.",
    "Polish": "Dzień dobry, proszę o pomoc w napisaniu listu do lekarza, ponieważ mam wyniki, które nie są dobre dla mnie.",
    "Turkish": "Merhaba, doktoruma bir mektup yazmak için yardıma ihtiyacım var, çünkü bu sonuçlar benim için çok kötü.",
    "Indonesian": "Halo, saya perlu bantuan untuk menulis surat kepada dokter saya tentang hasil tes yang tidak baik ini.",
    "Vietnamese": "Xin chào, tôi cần giúp viết một lá thư cho bác sĩ của tôi về kết quả xét nghiệm không được tốt.",
    "Swedish": "Hej, jag behöver hjälp med att skriva ett brev till min läkare om att proverna inte är bra och vad det betyder.",
    "pinyin": "wo de shenfenzheng haoma shi duoshao ne, qing ni bang wo xie yi feng xin gei wo de yisheng, wo hen danxin",
    "pinyin with tones": "wǒ de shēnfènzhèng hàomǎ shì duōshao ne, qǐng nǐ bāng wǒ xiě yì fēng xìn gěi wǒ de yīshēng, wǒ hěn dānxīn",
}  # fmt: skip

EVALUATED = (
    # English, everyday
    "Write a poem about a lighthouse keeper who finds a letter in a bottle, and let it end well.",
    "Summarise the causes of the First World War in five bullet points for a school class.",
    "Plan a trip from Los Angeles to San Francisco via Santa Cruz, La Jolla, Las Vegas, El Paso and Los Alamos.",
    "Restaurants near me: La Petite Maison, El Toro Loco, Il Fornaio, De la Rosa, Les Deux Magots, Das Wirtshaus.",
    "What does the phrase je ne sais quoi mean, and when would somebody use it in a conversation at work?",
    "Explain the difference between a la carte, en route, vis a vis and per se in English usage, please.",
    "Translate 'where is the station' into German, French, Spanish, Italian, Dutch, Polish, Turkish and Swedish.",
    "The cast includes Leonardo da Vinci, Ludwig van Beethoven, Vincent van Gogh, Simone de Beauvoir and Charles de Gaulle.",
    "Maria da Silva, Juan de la Cruz, Otto von Bismarck and Pierre du Pont met at the café in São Paulo last year.",
    "Naïve façades: a résumé of clichés about the café, the fiancée, the piñata and the jalapeño in English.",
    "List synonyms: big, large, huge, vast, immense, enormous, gigantic, colossal, massive, mammoth, titanic.",
    "apple banana cherry date elderberry fig grape honeydew kiwi lemon mango nectarine orange papaya quince",
    "I am so sad. Me too. We can do it. He is in. Die hard. On a man. So what. An era. Was it? In time.",
    "ALL STAFF MUST WEAR SAFETY SHOES IN THE WAREHOUSE AND REPORT TO THE FRONT DESK BEFORE LUNCH TODAY",
    "Dear team, thanks for all the hard work on the quarterly numbers; the results are better than we had hoped.",
    "How do I cook risotto alla milanese with saffron, parmigiano reggiano and a glass of dry white wine?",
    "Compare the top speed of Lamborghini, Ferrari, Porsche, Bugatti, Koenigsegg and Mercedes-Benz cars in 2023.",
    "The patient took ibuprofen, paracetamol, amoxicillin, metformin, atorvastatin, lisinopril and omeprazole daily.",
    "Homo sapiens, Canis lupus, Felis catus, Quercus robur and Escherichia coli are names of species.",
    "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut labore.",
    "Give me ten names for a cat that sound Italian, such as Luna, Bella, Leo, Romeo, Nino and Gino.",
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness.",
    "u r gr8 lol brb omg thx 4 the help c u l8r at the mall ok bye xoxo see ya tmrw at noon",
    "Countries by code: de fr es it nl pl tr id vi sv da no fi hu ro cs pt el la os en un ni ma ye",
    "do re mi fa so la ti do, and back again: do ti la so fa mi re do, sing it with me one more time",
    "A sa re ga ma pa dha ni scale is the Indian way to name the notes that Western music calls do re mi.",
    "La La Land, Le Mans, El Nino, Das Boot, Der Spiegel, Die Zeit, La Repubblica and El Pais: who made which?",
    "e.g. i.e. etc. et al. de facto, ad hoc, pro rata, per diem, vice versa, quid pro quo, status quo, in vivo",
    "Set the thermostat to 21 degrees, turn the lights in the den off and play some jazz on the kitchen speaker.",
    "The quick brown fox jumps over the lazy dog while the five boxing wizards jump quickly.",
    "Ma and Pa had no TV, so we sat on the sofa by the bay, ate a pie, and sang la la la till ten.",
    "Kubernetes pods on ARM nodes crash with OOMKilled; the liveness probe times out after 30 s. What should I check?",
    "Review this contract clause: the Licensee shall indemnify the Licensor against all claims arising out of use.",
    # Chinese
    "请帮我写一首关于灯塔的诗,要求语言优美,结尾圆满,适合中学生在课堂上朗读。",
    "如何用电饭煲做一锅好吃的腊味煲仔饭?请给出详细的步骤、用料的分量以及注意事项,谢谢。",
    "解释一下什么是量子纠缠,并用日常生活中的例子说明它为什么和常识不一样,字数不要超过三百。",
    "請幫我修改這封給客戶的郵件,語氣要禮貌而堅定,並且說明交貨日期為什麼需要延後兩個星期。",
    "推荐几本关于中国近代史的书,并说明每一本的特点和适合的读者,最好有电子版。",
    "用 Python 写一个函数,读取 CSV 文件并计算每一列的平均值,然后用 matplotlib 画出柱状图。",
    "我们公司准备开发一个 iOS App,请比较 Swift、React Native 和 Flutter 的优缺点。",
    "长城、故宫、天坛和颐和园,哪一个最适合带孩子去?请安排一个为期两天的北京旅行计划。",
    "把下面的句子翻译成英文:昨天下了一整天的雨,所以我们没有去公园,而是在家里看电影。",
    "日本的动漫产业为什么这么发达?请从历史、市场和人才三个方面分析,并列举几部代表作,如《ドラえもん》。",
    # Code and data
    "def add(a, b):\n    return a + b\n\n\nif __name__ == '__main__':\n    print(add(1, 2))\n",
    "for (let i = 0; i < els.length; i++) { const el = els[i]; el.on('click', e => { e.preventDefault(); un(el); }); }",
    "SELECT u.id, u.name, o.total FROM users u JOIN orders o ON o.user_id = u.id WHERE o.total > 100 ORDER BY o.total DESC;",
    "#include <stdio.h>\nint main(void) { int n = 0; scanf(\"%d\", &n); printf(\"%d\\n\", n * n); return 0; }",
    "fn main() -> Result<(), Box<dyn Error>> { let mut se = String::new(); let la = se.len(); println!(\"{la}\"); Ok(()) }",
    "git commit -m 'fix: do not retry' && git push origin main && kubectl rollout status deploy/api -n prod --timeout 60s",
    '{"name": "left-pad", "version": "1.3.0", "scripts": {"test": "jest", "lint": "eslint ."}, "license": "MIT"}',
    "de: 12\nla: 7\nel: 9\nle: 4\nen: 8\nes: 3\nun: 5\nse: 2\nmi: 1\nsu: 6\nlos: 4\nlas: 3\n",
    "a b c d e f g h i j k l m n o p q r s t u v w x y z aa ab ac ad ae af ag ah ai aj ak al am an ao ap",
    "2024-01-15T10:30:00Z INFO worker-3 handled request in 12 ms; 2024-01-15T10:30:01Z WARN queue depth 11",
    "<ul><li>Home</li><li>About</li><li>Contact</li></ul><p>Copyright by the authors, all rights reserved.</p>",
    "\\int_0^\\infty e^{-x^2} dx = \\frac{\\sqrt{\\pi}}{2}, where α, β and γ are the angles and σ is the deviation",
    "public class Foo { private final Map<String, List<Integer>> bar = new HashMap<>(); void baz() { bar.clear(); } }",
    "import os, sys, re, json, math\nfrom pathlib import Path\nfrom typing import Any, Optional, Iterator\n",
    "aGVsbG8gd29ybGQsIHRoaXMgaXMgYSBsb25nIHRva2Vu and 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822c",
    "x = y if z else w; la = lo = mi = 0; se = [el for el in els if el]; un = lambda de: de + 1",
    "docker run --rm -it -v $PWD:/w -w /w python:3.12-slim bash -c 'pip install -r requirements.txt && pytest -q'",
    "Error: connect ECONNREFUSED at TCPConnectWrap.afterConnect [as oncomplete] (node:net:1555:16) in the pool",
)  # fmt: skip


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier()


@pytest.mark.parametrize("language", OTHERS)
def test_text_in_another_language_is_unverified(language: str, classifier: Classifier) -> None:
    assert classifier.classify_text(OTHERS[language]).unverified_language


@pytest.mark.parametrize("text", EVALUATED)
def test_english_chinese_and_code_are_verified(text: str, classifier: Classifier) -> None:
    assert not classifier.classify_text(text).unverified_language


def test_samples_are_as_many_as_the_claim() -> None:
    assert len(EVALUATED) >= 60
    assert len(OTHERS) >= 12


@pytest.mark.parametrize("language", ["Russian", "Korean", "French", "Vietnamese"])
def test_segment_decides_and_not_its_neighbours(language: str, classifier: Classifier) -> None:
    english = Segment("/messages/0/content", EVALUATED[0] * 20)
    assert not classifier.classify([english]).unverified_language
    assert classifier.classify([english, Segment("/messages/1/content", OTHERS[language])]).unverified_language


@pytest.mark.parametrize("language", OTHERS)
def test_a_few_foreign_words_in_a_long_english_text_are_no_matter(language: str, classifier: Classifier) -> None:
    text = " ".join(EVALUATED[:12]) + f"\nShe said: {OTHERS[language][:24]}"
    assert not classifier.classify_text(text).unverified_language


@pytest.mark.parametrize("language", ["Russian", "Greek", "Arabic", "Spanish", "Swedish"])
def test_under_forty_letters_nothing_is_said(language: str, classifier: Classifier) -> None:
    assert not classifier.classify_text(OTHERS[language][:36]).unverified_language


def test_encoded_text_counts_as_what_it_says(classifier: Classifier) -> None:
    arguments = json.dumps({"note": OTHERS["Russian"]})
    assert arguments.isascii()
    assert classifier.classify_text(arguments).unverified_language
    assert classifier.classify_text(base64.b64encode(OTHERS["German"].encode()).decode()).unverified_language


def test_rotated_english_is_not_another_language(classifier: Classifier) -> None:
    assert not in_other_language(codecs.encode(EVALUATED[1], "rot13"))
    assert not classifier.classify_text(EVALUATED[1]).unverified_language


@pytest.mark.parametrize("language", ["French", "Vietnamese", "Swedish"])
def test_accents_may_be_written_apart(language: str, classifier: Classifier) -> None:
    assert classifier.classify_text(unicodedata.normalize("NFD", OTHERS[language])).unverified_language


def test_scripts_are_told_by_their_letters() -> None:
    assert in_other_script("ж" * 41)
    assert not in_other_script("ж" * 40)
    assert in_other_script("ж" * 21 + "a" * 79)
    assert not in_other_script("ж" * 20 + "a" * 80)
    assert not in_other_script("灯" * 500)
    assert not in_other_script("é" * 500)
    assert not in_other_script("🚢" * 500)
