"""Sentences in four languages, two of which have no spaces between words, and a tiny XLM-R."""

from pathlib import Path
from typing import Dict, List, Tuple

import transformers
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from tests.tiny import tiny_transformer

# For each language and label five sentences, of which the last has words of the others.
_SENTENCES: Dict[str, Dict[str, List[str]]] = {
    "ja": {
        "weather": [
            "明日は雨が降るでしょう",
            "午後から強い雨になります",
            "今夜は雪が降りそうです",
            "週末は晴れて暑くなります",
            "明日の午後は強い雨でしょう",
        ],
        "food": [
            "このラーメンはとても美味しい",
            "駅前の店のカレーは辛い",
            "母の作る味噌汁が好きです",
            "寿司と天ぷらを食べました",
            "母のカレーはとても美味しい",
        ],
        "music": [
            "彼女はピアノを上手に弾く",
            "新しい歌を毎日聴いている",
            "ギターの音が部屋に響く",
            "今夜のコンサートで歌を聴く",
            "ピアノとギターの音を聴く",
        ],
    },
    "th": {
        "weather": [
            "พรุ่งนี้ฝนจะตกหนัก",
            "วันนี้อากาศร้อนมาก",
            "ลมแรงและฝนตกทั้งวัน",
            "หิมะตกบนภูเขา",
            "วันนี้ฝนตกและลมแรง",
        ],
        "food": [
            "ก๋วยเตี๋ยวร้านนี้อร่อยมาก",
            "แกงเขียวหวานเผ็ดเกินไป",
            "ฉันกินข้าวผัดกับไข่",
            "ผลไม้ที่ตลาดสดและหวาน",
            "ข้าวผัดร้านนี้อร่อย",
        ],
        "music": [
            "เธอเล่นเปียโนเก่งมาก",
            "ฉันฟังเพลงใหม่ทุกวัน",
            "เสียงกีตาร์ดังในห้อง",
            "คอนเสิร์ตคืนนี้มีเพลงเพราะ",
            "ฉันฟังเสียงเปียโนทุกวัน",
        ],
    },
    "de": {
        "weather": [
            "Morgen regnet es den ganzen Tag",
            "Der Wind ist heute sehr stark",
            "Am Wochenende scheint die Sonne",
            "Im Gebirge fällt viel Schnee",
            "Morgen scheint im Gebirge die Sonne",
        ],
        "food": [
            "Die Suppe schmeckt sehr gut",
            "Der Kuchen ist zu süß",
            "Wir essen Brot mit Käse",
            "Das Gemüse vom Markt ist frisch",
            "Der Käse vom Markt schmeckt gut",
        ],
        "music": [
            "Sie spielt sehr gut Klavier",
            "Ich höre jeden Tag neue Lieder",
            "Die Gitarre klingt im ganzen Haus",
            "Das Konzert heute Abend war laut",
            "Ich höre jeden Tag Klavier",
        ],
    },
    "ar": {
        "weather": [
            "سوف تمطر غدا طوال اليوم",
            "الرياح قوية جدا اليوم",
            "تشرق الشمس في نهاية الأسبوع",
            "يتساقط الثلج على الجبال",
            "تشرق الشمس غدا على الجبال",
        ],
        "food": [
            "الحساء لذيذ جدا",
            "الكعكة حلوة أكثر من اللازم",
            "نأكل الخبز مع الجبن",
            "الخضار من السوق طازجة",
            "الخبز من السوق لذيذ",
        ],
        "music": [
            "تعزف على البيانو ببراعة",
            "أسمع أغاني جديدة كل يوم",
            "صوت الغيتار يملأ البيت",
            "كانت الحفلة الموسيقية رائعة",
            "أسمع صوت البيانو كل يوم",
        ],
    },
}

LANGUAGES = sorted(_SENTENCES)


def training_texts() -> List[Tuple[str, str]]:
    """Labels and sentences of all languages."""
    return [
        (label, sentence)
        for of_language in _SENTENCES.values()
        for label, sentences in of_language.items()
        for sentence in sentences[:-1]
    ]


def other_texts(language: str) -> List[Tuple[str, str]]:
    """Labels and sentences that are not among those."""
    return [(label, sentences[-1]) for label, sentences in _SENTENCES[language].items()]


def save_tiny_xlm_roberta(folder: Path) -> Path:
    """
    Makes the folder of a 4-layer XLM-R with 64 positions, and its tokenizer, whose pieces are
    chosen by SentencePiece's unigram model (Kudo 2018) on the sentences.
    """
    folder.mkdir(parents=True)
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.UnigramTrainer(vocab_size=600, special_tokens=specials, unk_token="<unk>")
    tokenizer.train_from_iterator([text for _, text in training_texts()], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    whole = transformers.XLMRobertaTokenizerFast(tokenizer_object=tokenizer, model_max_length=64)
    whole.save_pretrained(folder)
    tiny_transformer("xlm-roberta", vocab_size=len(whole)).save_pretrained(folder)
    return folder
