"""Overviews in any language: what a word is in each script, and how that is decided and kept."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
from conftest import tiny_config
from sklearn.metrics import average_precision_score

from mmfusion.data.in_graph import RawInputs
from mmfusion.data.preprocessing import USUAL_RULES, Preprocessing, TextRules
from mmfusion.data.scripts import decide, folded
from mmfusion.data.text import encode_overviews, fit_vocabulary
from mmfusion.errors import UserError
from mmfusion.runs import Run
from mmfusion.training import experiment, preparation

CHARACTERS, FOLDED = TextRules(split="characters"), TextRules(fold="on")
BOTH = TextRules(split="characters", fold="on")
TEXTS = {
    "chinese": ["两姐妹继承了一座灯塔。", "一名侦探追捕凶手,城市陷入恐惧。"],
    "japanese": ["スーパーの店員が宇宙へ行く。", "二人の姉妹は灯台をもらった。"],
    "thai": ["ตำรวจน้ำกำลังตามล่าฆาตกร", "สองพี่น้องได้รับมรดกเป็นประภาคาร"],
    "khmer": ["បងប្អូនស្រីពីរនាក់ទទួលមរតក"],
    "russian": ["Две сестры получают маяк. Их Отец пропал.", "Сестры Ищут отца."],
    "greek": ["Δύο αδελφές κληρονομούν έναν Φάρο.", "Ο φάρος είναι ΠΑΛΙΟΣ."],
    "armenian": ["Երկու Քույր ժառանգում են փարոս։"],
    "german": [
        "Zwei Schwestern erben einen Leuchtturm an der Küste. Der Ärger beginnt, als ein Fremder auftaucht und große "
        "Ansprüche stellt: Gehört das Licht am Ende ihm, oder gehört es allen?"
    ],
    "vietnamese": [
        "Hai chị em thừa kế một ngọn hải đăng ở Đà Nẵng. Khi một người lạ xuất hiện và đòi lại ánh sáng, họ phải chọn "
        "giữa gia đình và sự thật mà cha họ đã giấu kín suốt nhiều năm."
    ],
    "turkish": [
        "İki kız kardeş bir deniz feneri miras alır. Bir yabancı ortaya çıkıp ışığın kendisine ait olduğunu söyleyince "
        "babalarının yıllarca sakladığı gerçekle yüzleşmek zorunda kalırlar."
    ],
    "hindi": ["दो बहनों को विरासत में एक प्रकाशस्तंभ मिलता है।"],
    "korean": ["두 자매가 등대를 물려받는다. 아버지는 사라졌다."],
    "arabic": ["شقيقتان ترثان منارة قديمة على الساحل."],
    "english": ["Two sisters inherit a lighthouse – a café in Chloë's Paris."],
    "chinese with spaces": ["两 姐妹 继承 了 一座 灯塔 。 侦探 追捕 凶手"],
    "none": ["", " ", "?!", "2012"],
    "no films": [],
}
NO_SPACES, CAPITALS = ("chinese", "japanese", "thai", "khmer"), ("russian", "greek", "armenian")


class TestAutomatically:
    @pytest.mark.parametrize("language", TEXTS)
    def test_characters_where_no_spaces_are_and_folding_where_capitals_are_not_ascii(self, language):
        found = decide(TEXTS[language], "auto", "auto")
        assert found.split == ("characters" if language in NO_SPACES else "words")
        assert found.fold == ("on" if language in CAPITALS else "off")

    @pytest.mark.parametrize("language", ["chinese", "russian", "english"])
    def test_what_was_asked_for_stays(self, language):
        assert decide(TEXTS[language], "words", "off") == USUAL_RULES
        assert decide(TEXTS[language], "characters", "on") == BOTH

    def test_films_in_two_languages_have_both_read(self):
        texts = TEXTS["english"] * 3 + (TEXTS["chinese"] + TEXTS["russian"]) * 2
        assert decide(texts, "auto", "auto") == BOTH

    def test_one_foreign_film_among_many_changes_nothing(self):
        assert decide(TEXTS["english"] * 200 + TEXTS["chinese"] + TEXTS["russian"], "auto", "auto") == USUAL_RULES


def words_of(text, rules):
    vocabulary = fit_vocabulary([text], 1000, rules)
    return [vocabulary[token] for token in encode_overviews([text], vocabulary, 100, rules)[0] if token]


class TestCharacters:
    def test_each_is_a_word_and_what_is_around_them_stays_one(self):
        found = words_of("NASA的人，3个！ Two sisters、café", CHARACTERS)
        assert found == ["nasa", "的", "人", "3", "个", "two", "sisters", "café"]
        assert words_of("スーパーへ𠀀々", CHARACTERS) == ["ス", "ー", "パ", "ー", "へ", "𠀀", "々"]

    def test_a_mark_belongs_to_the_character_that_bears_it(self):
        assert words_of("น้ำ กี่", CHARACTERS) == ["น้", "ำ", "กี่"]

    @pytest.mark.parametrize("language", ["hindi", "korean", "arabic", "russian", "english", "vietnamese"])
    def test_scripts_with_spaces_keep_their_words(self, language):
        for text in TEXTS[language]:
            assert words_of(text, CHARACTERS) == words_of(text, USUAL_RULES)


class TestFolding:
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("Café", "cafe\u0301"),  # composed or not
            ("ÜBEL", "übel"),
            ("STRASSE", "straße"),
            ("СЁСТРЫ", "сестры"),
            ("ΦΆΡΟΣ", "φάρος"),  # with a final sigma
            ("KADIN", "kadın"),
            ("İstanbul", "istanbul"),
            ("ＦＩＬＭ", "film"),
            ("ﬁlm", "FILM"),
            ("ｶﾀｶﾅ", "カタカナ"),
        ],
    )
    def test_words_that_differ_in_case_accents_or_width_are_one(self, one, other):
        assert folded(one) == folded(other)
        assert words_of(one, FOLDED) == words_of(other, FOLDED)

    @pytest.mark.parametrize("language", ["hindi", "korean", "arabic", "thai", "khmer", "japanese"])
    def test_letters_without_case_stay_what_they_are(self, language):
        for text in TEXTS[language]:
            assert folded(text) == text

    def test_what_is_folded_once_stays(self):
        everything = "".join(chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)
        once = folded(everything)
        assert folded(once) == once


ALL = [*(text for texts in TEXTS.values() for text in texts), "war\0 \0ค\0\u0e31", "ก\u0301ั", "\u0e31ก", "ﷺ½㎏…´"]


@pytest.mark.parametrize("rules", [USUAL_RULES, CHARACTERS, FOLDED, BOTH], ids=str)
class TestEverywhereTheSame:
    def test_a_graph_has_the_tokens_that_training_gave(self, rules):
        vocabulary = fit_vocabulary(ALL[::2], 200, rules)
        expected = encode_overviews(ALL, vocabulary, 30, rules)
        found = tf.function(RawInputs(16, Preprocessing(vocabulary, rules=rules), 30).tokens)(tf.constant(ALL))
        np.testing.assert_array_equal(found, expected)

    def test_texts_may_come_in_parts(self, rules):
        vocabulary = fit_vocabulary(ALL, 200, rules)
        parts = [encode_overviews(ALL[start : start + 5], vocabulary, 30, rules) for start in range(0, len(ALL), 5)]
        np.testing.assert_array_equal(np.concatenate(parts), encode_overviews(ALL, vocabulary, 30, rules))


def test_tensorflow_folds_every_character_as_python_does():
    characters = [chr(code) for code in range(0x20, 0x30000) if not 0xD800 <= code < 0xE000]
    from mmfusion.data.text import Spaced

    found = Spaced(FOLDED)(tf.constant(characters)).numpy()
    assert [one.decode() for one in found] == [folded(one) for one in characters]
