"""Overviews in any language: what a word is in each script, and how that is decided and kept."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import command, tiny_config
from PIL import Image
from sklearn.metrics import average_precision_score

from benchmarks.baselines import train_baseline
from mmfusion import inference, train
from mmfusion.data.in_graph import RawInputs
from mmfusion.data.preprocessing import USUAL_RULES, Preprocessing, TextRules
from mmfusion.data.scripts import decide, folded
from mmfusion.data.text import Spaced, encode_overviews, fit_vocabulary
from mmfusion.errors import UserError
from mmfusion.inference.export import export
from mmfusion.reports import report
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
        "Zwei Schwestern erben einen Leuchtturm an der Küste. Der Ärger beginnt, als ein Fremder kommt und große "
        "Ansprüche stellt: Gehört das Licht am Ende ihm, oder gehört es allen?"
    ],
    "vietnamese": [
        "Hai chị em thừa kế một ngọn hải đăng ở Đà Nẵng. Khi một người lạ xuất hiện và đòi lại ánh sáng, họ phải "
        "chọn giữa gia đình và sự thật mà cha họ đã giấu kín suốt nhiều năm."
    ],
    "turkish": [
        "İki kız kardeş bir deniz feneri miras alır. Bir yabancı ortaya çıkıp ışığın kendisine ait olduğunu "
        "söyleyince babalarının yıllarca sakladığı gerçekle yüzleşmek zorunda kalırlar."
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
        assert words_of("𠀀々、韓國", CHARACTERS) == ["𠀀", "々", "韓", "國"]

    def test_letters_of_scripts_with_few_are_read_three_at_a_time_each_with_its_marks(self):
        assert words_of("ตำรวจ 5 กี่", CHARACTERS) == ["ตำร", "ำรว", "รวจ", "วจ", "จ", "5", "กี่"]
        assert words_of("น้", CHARACTERS) == ["น้"]
        assert words_of("スーパーの人", CHARACTERS) == ["スーパ", "ーパー", "パーの", "ーの", "の", "人"]

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
    found = Spaced(FOLDED)(tf.constant(characters)).numpy()
    assert [one.decode() for one in found] == [folded(one) for one in characters]


NOTHING_TOLD = "两姐妹继承了一座灯塔城市在夜里陷入恐惧他们踏上旅程寻找失落的真相与父亲"
DETECTIVES, WEDDINGS = ("侦探追凶", "凶手落网", "侦探破案"), ("婚礼爱情", "恋人相爱", "爱情来临")


def write_films(folder, count=240):
    """Films of which the overview alone tells the genre, in Chinese without spaces; posters have one colour."""
    random = np.random.default_rng(0)
    (folder / "Images").mkdir(parents=True)
    with (folder / "IMDB_overview_genres.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["Id", "Genre", "Crime", "Romance", "Overview"])
        for number in range(count):
            crime = int(random.integers(2))
            told = str(random.choice(DETECTIVES if crime else WEDDINGS))
            more = "".join(random.choice(list(NOTHING_TOLD), 12))
            place = int(random.integers(12))
            writer.writerow([f"tt{number:04d}", "[]", crime, 1 - crime, f"{more[:place]}{told}{more[place:]}。"])
            Image.new("RGB", (16, 24), (number, 9, 9)).save(folder / "Images" / f"tt{number:04d}.png")
    for poster in (folder / "Images").iterdir():
        poster.rename(poster.with_suffix(".jpg"))
    return folder


@pytest.fixture(scope="module")
def chinese(tmp_path_factory):
    return write_films(tmp_path_factory.mktemp("chinese") / "films")


def config_of(folder, variant="overview", **overrides):
    settings = {
        "data__dataset": "multimodal_imdb",
        "data__data_dir": str(folder),
        "data__split": [0.6, 0.2, 0.2],
        "training__epochs": 12,
        "training__learning_rate": 0.02,
    }
    return tiny_config(variant, **{**settings, **overrides})


def trained(folder, out, cache, variant="overview", **overrides):
    return experiment.train(config_of(folder, variant, **overrides), out, cache)


@pytest.fixture(scope="module")
def by_characters(chinese, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    run = trained(chinese, folder / "auto", tmp_path_factory.getbasetemp() / "cache", overview__fold="on")
    report.write_report(run)
    return run


def ap(run):
    found = run.predictions("test")
    return average_precision_score(found.y_true[:, 0], found.y_prob[:, 0])


class TestRuns:
    def test_films_without_spaces_are_learned_from_and_as_words_they_are_not(
        self, chinese, by_characters, cache, tmp_path, capfd
    ):
        as_words = trained(chinese, tmp_path / "words", cache, overview__split="words")
        assert "overview.split" not in capfd.readouterr().err
        assert ap(by_characters) > 0.9
        assert ap(as_words) < 0.75
        assert "侦" in by_characters.vocabulary
        assert by_characters.facts["overview"] == {"split": "characters", "fold": "on"}
        assert by_characters.config.overview.split == "auto"
        assert "overview" not in as_words.facts

    def test_what_was_decided_is_said_in_one_line_by_what_reads_words(self, chinese, cache, capfd):
        preparation.prepare(config_of(chinese), cache)
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith("For these overviews overview.split=characters, as their script has no spaces")
        preparation.prepare(config_of(chinese, "poster"), cache)
        assert not capfd.readouterr().err

    def test_a_run_reads_other_films_as_it_was_decided(self, by_characters):
        crime, same, romance = inference.predict(
            by_characters, {"overview": ["侦探追凶", "ＮＡＳＡ 侦探追凶！", "婚礼爱情"], "poster": [b""] * 3}
        )[:, 0]
        assert crime > 0.6 > 0.4 > romance
        assert same > 0.6

    def test_a_run_of_before_goes_on_with_words(self, chinese, cache, tmp_path):
        run = trained(chinese, tmp_path / "before", cache, overview__split="words", training__epochs=1)
        said = json.loads(run.config_file.read_text())
        del said["overview"]["split"], said["overview"]["fold"]
        run.config_file.write_text(json.dumps(said))
        run.manifest_file.unlink()
        before, predictions = Run(run.folder), run.predictions("test").y_prob
        assert before.config.overview.split == "auto"
        assert before.fitted.rules == USUAL_RULES
        np.testing.assert_array_equal(experiment.resume(before, cache).predictions("test").y_prob, predictions)

    def test_what_a_stranger_says_of_it_is_checked(self, by_characters, tmp_path):
        said = json.loads(by_characters.config_file.read_text())
        for given, message in (({"split": "letters"}, "facts.overview.split must be one of words, characters"),):
            other = Run(tmp_path / "other")
            other.folder.mkdir()
            for name in ("vocabulary.txt", "genres.json"):
                (other.folder / name).write_bytes((by_characters.folder / name).read_bytes())
            other.write_json(other.config_file, {**said, "facts": {**said["facts"], "overview": given}})
            with pytest.raises(UserError, match=message):
                _ = other.fitted

    def test_parts_that_read_otherwise_are_refused(self, chinese, by_characters, cache, tmp_path):
        poster = trained(chinese, tmp_path / "poster", cache, "poster", training__epochs=1)
        late = config_of(chinese, "late", overview__split="words")
        with pytest.raises(UserError, match=r"another overview.split or overview.fold than this run would have"):
            experiment.train(late, tmp_path / "late", cache, part_runs=[poster, by_characters])

    def test_an_export_says_what_the_run_says(self, by_characters, tmp_path):
        assert export(by_characters, "savedmodel", tmp_path / "out") < 1e-5
        texts = [*ALL, "侦探追凶", "婚礼爱情", "ＮＡＳＡ侦探"]
        films = {"overview": texts, "poster": [b""] * len(texts)}
        served = tf.saved_model.load(tmp_path / "out").signatures["serving_default"]
        found = served(overviews=tf.constant(texts), posters=tf.constant(films["poster"]))["probabilities"]
        np.testing.assert_allclose(found, inference.predict(by_characters, films), atol=1e-5)

    def test_the_code_in_an_exported_readme_makes_the_same_tokens(self, by_characters, tmp_path, monkeypatch):
        pytest.importorskip("onnxruntime")
        pytest.importorskip("tf2onnx")
        export(by_characters, "onnx", tmp_path / "out")
        monkeypatch.chdir(tmp_path / "out")
        definitions = re.findall("```python(.*?)```", Path("README.md").read_text("utf-8"), re.DOTALL)[0]
        names = {}
        exec(definitions, names)
        # What the run's vocabulary does not have is one token: so one that has everything.
        vocabulary = fit_vocabulary(ALL, 1000, BOTH)
        names["numbers"] = {word.encode(): number for number, word in enumerate(vocabulary)}
        longest = by_characters.config.max_tokens
        for text, expected in zip(ALL, encode_overviews(ALL, vocabulary, longest, BOTH)):
            assert names["tokens"](text) == [token for token in expected if token]

    def test_a_baseline_on_words_is_given_characters_too(self, chinese, cache, tmp_path):
        def scored(split):
            config = config_of(chinese, overview__split=split).with_values(variant="tfidf")
            return ap(train_baseline(config, tmp_path / split, cache, {}))

        assert scored("auto") > 0.9
        assert scored("words") < 0.75


@pytest.mark.parametrize(
    "call",
    [
        "--variant poster --set overview.split=characters",
        "--variant cnn --set overview.fold=on",
        "--variant overview --overview-encoder preset:somewhere --set overview.split=words",
    ],
)
def test_a_setting_that_nothing_reads_is_refused(call, monkeypatch, capsys):
    assert command(train.main, monkeypatch, *call.split()) == 2
    assert "does nothing here: overview." in capsys.readouterr().err
